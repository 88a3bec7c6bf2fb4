package linear

import "fmt"

// describe is how a step looks in a picture: what was asked, and what was answered.
func describe(in input, out output) string {
	text := fmt.Sprintf("%d %s", in.op, in.kind)
	if in.user != "" {
		text += " " + in.user[:1]
	}
	if in.handle != "" {
		text += fmt.Sprintf(" with %.6s/%.6s", in.handle, in.id)
	}
	if in.name != "" {
		text += " " + in.name + "=" + in.value
	}
	if in.target != "" {
		text += fmt.Sprintf(" of %.6s", in.target)
	}
	if in.everywhere {
		text += " and here"
	}
	text += " -> "
	if out.status != 0 {
		text += fmt.Sprint(out.status)
	}
	switch {
	case out.id != "":
		text += fmt.Sprintf(" %.1s %.6s refreshed %v %v", out.user, out.id, out.refreshed, out.values)
	case out.dropped:
		text += " dropped"
	}
	if out.to != "" {
		text += fmt.Sprintf(" token %.6s/%.6s", out.handle, out.to)
	}
	if in.kind == kindEndUser || in.kind == kindEndOthers {
		text += fmt.Sprintf(" ended %d", out.n)
	}
	for h, id := range out.sessions {
		text += fmt.Sprintf(" %.6s=%.6s", h, id)
	}
	return text + describeDevice(in, out)
}
