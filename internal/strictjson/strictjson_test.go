package strictjson_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/internal/strictjson"
)

func TestCheck(t *testing.T) {
	for text, want := range map[string]string{
		`"a"`:                      "",
		" {\"a\" : [1, null]}\n":   "",
		`"\ud83d\ude00"`:           "",
		`["\uD83D\uDE00\u00fc"]`:   "",
		`"\ufffd` + "\ufffd" + `"`: "",
		`"\\ud83d"`:                "",
		`"\"\\\\ude00\n"`:          "",
		``:                         "JSON",
		`{"a":"b"} x`:              "JSON",
		`"\ud8"`:                   "JSON",
		"\"\xff\"":                 "UTF-8",
		"\"\xed\xa0\x80\"":         "UTF-8",
		`"\ud800"`:                 "surrogate",
		`"\udfff"`:                 "surrogate",
		`"\ud83dx"`:                "surrogate",
		`"\ud83d\n"`:               "surrogate",
		`"\ud83d\\ude00"`:          "surrogate",
		`"\ud83d\u0041"`:           "surrogate",
		`"\ud83d\ud83d\ude00"`:     "surrogate",
		`"\ud83d\ude00\ude00"`:     "surrogate",
		`["\ud83d","\ude00"]`:      "surrogate",
		`{"\ud800":[{}]}`:          "surrogate",

		`{"a":"a","b":{"a":["a"]},"A":[{"a":0},{"a":0}]}`: "",
		`{"a":":","b":",\"a\":"}`:                         "",
		`{"":0,"a\"":0,"a\\":0,"a":0}`:                    "",
		`{"a":1,"b":2,"a":1}`:                             "twice",
		"{\"a\" :1,\"\\u0061\"\t\r\n:2}":                  "twice",
		`{"":0,"":0}`:                                     "twice",
		`[{"b":[{"a":1,"a":2}]}]`:                         "twice",
		`{"a":{"b":1},"c":{"a":{}},"a":{}}`:               "twice",
	} {
		err := strictjson.Check([]byte(text))
		if want == "" {
			require.NoError(t, err, text)
			continue
		}
		assert.ErrorContains(t, err, want, text)
	}
}
