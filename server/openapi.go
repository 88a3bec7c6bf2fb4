package server

import _ "embed" // the document

// openAPI describes every route of both listeners. Package servertest checks each request and response of its suite against it.
//
//go:embed openapi.yaml
var openAPI []byte

var typeYAML = []byte("application/yaml") // RFC 9512
