module github.com/coatcheck/coatcheck/bench/jwt

go 1.26.8

replace github.com/coatcheck/coatcheck => ../..

require (
	github.com/coatcheck/coatcheck v0.0.0
	github.com/golang-jwt/jwt/v5 v5.3.1
	github.com/stretchr/testify v1.12.1
)

require (
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/sys v0.49.0 // indirect
)
