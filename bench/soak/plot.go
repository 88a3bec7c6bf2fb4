package main

import (
	"fmt"
	"image/color"
	"math"
	"os"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// plot draws each series over time into an SVG file: its samples, a line where the second half begins, a line for the trend of
// that half, and red lines where Redis was stopped and started again.
func (r *result) plot(file string) error {
	const columns = 2
	rows := (len(series) + columns - 1) / columns
	canvas := vgsvg.New(24*vg.Centimeter, vg.Length(rows)*4.6*vg.Centimeter)
	tiles := draw.Tiles{
		Rows: rows, Cols: columns, PadX: 6 * vg.Millimeter, PadY: 5 * vg.Millimeter,
		PadTop: 3 * vg.Millimeter, PadBottom: 2 * vg.Millimeter, PadLeft: 2 * vg.Millimeter, PadRight: 4 * vg.Millimeter,
	}
	all := make([][]*plot.Plot, rows)
	for i := range all {
		all[i] = make([]*plot.Plot, columns)
	}
	for i := range series {
		one, err := r.panel(i)
		if err != nil {
			return fmt.Errorf("the plot of %s: %w", series[i].name, err)
		}
		all[i/columns][i%columns] = one
	}
	for i, row := range plot.Align(all, tiles, draw.New(canvas)) {
		for j, where := range row {
			if all[i][j] != nil {
				all[i][j].Draw(where)
			}
		}
	}
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	if _, err := canvas.WriteTo(out); err != nil {
		return err
	}
	return out.Close()
}

var (
	blue = color.RGBA{R: 0x09, G: 0x69, B: 0xda, A: 0xff}
	red  = color.RGBA{R: 0xcf, G: 0x22, B: 0x2e, A: 0xff}
	grey = color.RGBA{R: 0xaa, G: 0xaa, B: 0xaa, A: 0xff}
)

func (r *result) panel(nth int) (*plot.Plot, error) {
	p := plot.New()
	s := series[nth]
	p.Title.Text = r.name(nth)
	if s.unit != "" {
		p.Title.Text += ", " + s.unit
	}
	p.BackgroundColor = color.White
	p.X.Label.Text = "minutes"
	at, values := r.column(nth)
	points := make(plotter.XYs, len(at))
	top := 0.0
	for i := range at {
		points[i] = plotter.XY{X: at[i] / 60, Y: values[i]}
		top = math.Max(top, values[i])
	}
	top = math.Max(top*1.08, 1)
	line, err := plotter.NewLine(points)
	if err != nil {
		return nil, err
	}
	line.Color = blue
	p.Add(plotter.NewGrid(), line)
	p.Y.Min, p.Y.Max = 0, top
	half := points[len(points)/2].X
	marks := []plotter.XYs{{{X: half, Y: 0}, {X: half, Y: top}}}
	if r.Outage[1] > 0 {
		for _, t := range r.Outage {
			marks = append(marks, plotter.XYs{{X: t / 60, Y: 0}, {X: t / 60, Y: top}})
		}
	}
	for i, m := range marks {
		l, err := plotter.NewLine(m)
		if err != nil {
			return nil, err
		}
		if l.Color = grey; i > 0 {
			l.Color = red
		}
		l.Dashes = []vg.Length{vg.Points(3), vg.Points(2)}
		p.Add(l)
	}
	t, err := trendOf(r.judged(nth))
	if err != nil || s.allow == nil {
		return p, err
	}
	end := points[len(points)-1].X
	fit, err := plotter.NewLine(plotter.XYs{{X: half, Y: t.Median - t.Growth/2}, {X: end, Y: t.Median + t.Growth/2}})
	if err != nil {
		return nil, err
	}
	fit.Color, fit.Width = red, vg.Points(1.5)
	p.Add(fit)
	return p, nil
}
