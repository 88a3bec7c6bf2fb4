// Package traces sends spans to an OpenTelemetry collector.
//
//   - traces.go: what is sent, from the start to the stop
//   - reports.go: what becomes of the complaints of OpenTelemetry's packages
package traces
