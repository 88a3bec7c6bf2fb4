// Package traces sends spans to an OpenTelemetry collector.
//
//   - traces.go: sending, from the start to the stop
//   - reports.go: logging the errors of OpenTelemetry's packages
package traces
