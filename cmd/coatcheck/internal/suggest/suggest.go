// Package suggest finds the name that somebody probably meant.
package suggest

import "fmt"

// Nearest returns the known name that differs least from a word, if that is little enough for a slip of the finger: one letter
// in three at most, where two that are exchanged count as one. Empty: none does.
func Nearest(word string, known []string) string {
	best, least := "", max(1, len(word)/3)+1
	for _, name := range known {
		if d := distance(word, name, least); d < least {
			best, least = name, d
		}
	}
	return best
}

// DidYouMean is "; did you mean X?" for the nearest known name, behind the prefix, and nothing if there is none.
func DidYouMean(word, prefix string, known []string) string {
	if name := Nearest(word, known); name != "" {
		return fmt.Sprintf("; did you mean %s%s?", prefix, name)
	}
	return ""
}

// distance is how many letters must be added, removed, changed or exchanged with their neighbour to make b of a. What is not
// below most may be any number from there up.
func distance(a, b string, most int) int {
	if len(a)-len(b) >= most || len(b)-len(a) >= most {
		return most
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := last[j-1]
			if a[i-1] != b[j-1] {
				change++
			}
			row[j] = min(change, last[j]+1, row[j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
