package process

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestShare(t *testing.T) {
	for name, tt := range map[string]struct {
		allowed []int
		n       int
		want    CPUs
	}{
		"two for one each: Redis shares":  {[]int{4, 5}, 1, CPUs{[]int{4}, []int{5}, 5}},
		"three for one each":              {[]int{0, 1, 2}, 1, CPUs{[]int{0}, []int{1}, 2}},
		"four for two each: Redis shares": {[]int{0, 1, 2, 3}, 2, CPUs{[]int{0, 1}, []int{2, 3}, 3}},
		"some are not allowed":            {[]int{1, 3, 5, 7, 9}, 2, CPUs{[]int{1, 3}, []int{5, 7}, 9}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := share(tt.allowed, tt.n)
			assert.NoError(t, err)
			assert.Equal(t, tt.want, got)
		})
	}
	for _, n := range []int{0, -1, 2} {
		_, err := share([]int{0, 1, 2}, n)
		assert.Error(t, err, n)
	}
}
