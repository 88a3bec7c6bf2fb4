package main

import "testing"

// What it does not understand is refused, before anything is measured.
func TestRefuse(t *testing.T) {
	sizes := []string{"128", "256"}
	for what, err := range map[string]error{
		"no session": refuse(0, sizes, nil), "less": refuse(-1, sizes, nil), "an argument": refuse(1, sizes, []string{"foo"}),
		"too small a record": refuse(1, []string{"12"}, nil), "no size": refuse(1, []string{"x"}, nil),
	} {
		if err == nil {
			t.Error(what)
		}
	}
	if err := refuse(1, sizes, nil); err != nil {
		t.Error(err)
	}
}
