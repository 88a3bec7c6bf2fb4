package login

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"github.com/coatcheck/coatcheck"
)

var fold = cases.Fold() // stateless, safe for concurrent use

// Canonical returns the one spelling that stands for all spellings of a name: Unicode compatibility normalisation (NFKC)
// and full case folding, without spaces at the ends. Lookup in the users file, throttling and audit use it, so that no
// alias of a name has an account, or a counter, of its own. It takes any name, and its result is its own canonical name;
// PRECIS (RFC 8265) would refuse names with spaces, and a refusal would be one more distinguishable answer.
func Canonical(name string) string {
	if isASCII(name) {
		return strings.TrimSpace(strings.ToLower(name))
	}
	// Lower case first, because x/text folds the two cases of a Cherokee letter into each other.
	return strings.TrimSpace(norm.NFKC.String(fold.String(strings.ToLower(norm.NFKC.String(name)))))
}

// skeleton returns what a canonical name has in common with all names that a back end may take for the same: its
// decomposition (NFKD) without marks and without code points that are ignored by default, such as a zero-width space, and
// case-folded again.
func skeleton(canonical string) string {
	if isASCII(canonical) {
		return canonical
	}
	bare := strings.Map(func(r rune) rune {
		if unicode.In(r, unicode.M, unicode.Cf, unicode.Other_Default_Ignorable_Code_Point) {
			return -1
		}
		return r
	}, norm.NFKD.String(canonical))
	return strings.TrimSpace(fold.String(bare))
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// checkName returns what is wrong with a user ID that a file or a back end gives: the ID must be one that a client may
// send.
func checkName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("a user ID must not be empty")
	case len(name) > coatcheck.MaxUserID:
		return fmt.Errorf("a user ID of %d bytes: it may have %d", len(name), coatcheck.MaxUserID)
	case !utf8.ValidString(name):
		return fmt.Errorf("a user ID must be UTF-8")
	case strings.ContainsFunc(name, unicode.IsControl):
		return fmt.Errorf("a user ID must not hold control characters")
	}
	return nil
}
