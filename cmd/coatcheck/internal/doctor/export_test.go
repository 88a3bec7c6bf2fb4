package doctor

// Gauge is gauge.
var Gauge = gauge
