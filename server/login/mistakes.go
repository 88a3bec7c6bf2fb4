package login

import (
	"errors"
	"fmt"
)

// mistakes collects what is wrong with a file, and lists a bounded number of them, so that a wrong file does not fill the
// terminal.
type mistakes struct {
	errs []error
	more int
}

const maxMistakes = 20

func (m *mistakes) add(format string, args ...any) {
	if len(m.errs) == maxMistakes {
		m.more++
		return
	}
	m.errs = append(m.errs, fmt.Errorf(format, args...))
}

// err returns all mistakes, joined; nil if there are none.
func (m *mistakes) err() error {
	if m.more > 0 {
		return errors.Join(append(m.errs, fmt.Errorf("and %d more", m.more))...)
	}
	return errors.Join(m.errs...)
}
