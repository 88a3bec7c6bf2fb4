package servertest

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"runtime"
	"strings"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/internal/httpcontract"
)

var loginBodyRules = []rule{
	{name: "media type", transport: true, check: checkMediaType},
	{name: "content encoding", transport: true, check: checkContentEncoding},
	{name: "a bomb is not expanded", transport: true, alone: true, check: checkBomb},
	{name: "JSON", transport: true, check: checkBodies},
	{name: "user_id", transport: true, check: checkUserIDRules},
	{name: "order of the checks", transport: true, check: checkBodyOrder},
}

func (h *harness) loginBody(body string, head ...string) response {
	h.Helper()
	return h.Send(request{Method: "POST", Path: "/auth/login", Head: head, Body: body})
}

func checkMediaType(h *harness) {
	body := `{"user_id":"u"}`
	for _, good := range []string{
		"application/json", "application/json; charset=utf-8", "application/json;charset=utf-8", "APPLICATION/JSON", "Application/Json ; q=1",
		"application/json;", "application/json; a=\";\"",
	} {
		assert.Equal(h, 200, h.loginBody(body, "Content-Type: "+good).Status, good)
	}
	for _, bad := range []string{
		"text/plain", "text/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonp", "application/json5", "application/json-patch+json",
		"application/problem+json", "application/vnd.api+json", "json", "application / json", "application/json,text/plain", "*/*",
		"text/plain; application/json", "xapplication/json", "application",
	} {
		assert.Equal(h, answer{Status: 415, Code: "unsupported_media_type"}, h.Answer(h.loginBody(body, "Content-Type: "+bad)), bad)
	}
	assert.Equal(h, 415, h.loginBody(body).Status, "none")
	for _, two := range [][]string{{asJSON, asJSON}, {"Content-Type: text/plain", asJSON}, {asJSON, "content-type: text/plain"}, {asJSON, "Content-Type:"}} {
		assert.Equal(h, answer{Status: 415, Code: "unsupported_media_type"}, h.Answer(h.loginBody(body, two...)), "%q", two)
	}
	assert.Equal(h, 415, h.loginBody(body, "Content_Type: application/json").Status, "another name")
	assert.Equal(h, 200, h.loginBody(body, asJSON, "Content_Type: text/plain").Status, "another name")
	assert.Equal(h, 415, h.loginBody(body, "Content-Type:").Status, "empty")
}

func checkContentEncoding(h *harness) {
	body := `{"user_id":"u"}`
	for _, encoding := range []string{"gzip", "deflate", "br", "zstd", "identity", "gzip, gzip", "GZIP", "x", " gzip", ""} {
		assert.Equal(h, answer{Status: 415, Code: "unsupported_media_type"}, h.Answer(h.loginBody(body, asJSON, "Content-Encoding: "+encoding)), encoding)
		assert.Equal(h, 415, h.loginBody(squeeze(body), asJSON, "Content-Encoding: "+encoding).Status, encoding)
	}
	assert.Equal(h, 415, h.loginBody(body, asJSON, "Content-Encoding:", "Content-Encoding: gzip").Status, "the second line")
	assert.Equal(h, 415, h.loginBody(body, asJSON, "content-encoding: gzip").Status, "lower case")
}

func squeeze(s string) string {
	var b bytes.Buffer
	w, _ := gzip.NewWriterLevel(&b, gzip.BestCompression)
	_, _ = w.Write([]byte(s))
	_ = w.Close()
	return b.String()
}

// DOS-04: the body is 16 MiB, compressed twice by gzip.
func checkBomb(h *harness) {
	bomb := squeeze(squeeze(strings.Repeat("\x00", 16<<20)))
	require.Less(h, len(bomb), 16<<10)
	h.loginBody(bomb, asJSON, "Content-Encoding: gzip, gzip")
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for _, path := range []string{"/auth/login", "/auth/refresh", "/auth/logout", "/auth/verify", "/auth/me", "/nowhere"} {
		resp := h.Send(request{Method: "POST", Path: path, Head: []string{asJSON, "Content-Encoding: gzip, gzip"}, Body: bomb})
		if path == "/auth/login" {
			assert.Equal(h, answer{Status: 415, Code: "unsupported_media_type"}, h.Answer(resp))
		}
	}
	runtime.ReadMemStats(&after)
	assert.Less(h, after.TotalAlloc-before.TotalAlloc, uint64(1<<20), "allocated while refusing it, in bytes")
}

func checkBodies(h *harness) {
	u := h.User()
	good := map[string]string{
		"blanks":               "\t\r\n {\"user_id\" : \"" + u + "\"}\n ",
		"escapes":              `{"\u0075ser_id":"a\u00e9\n"}`[:20] + `"a"}`,
		"surrogate pair":       `{"user_id":"\ud83d\ude00"}`,
		"pair, upper case":     `{"user_id":"\uD83D\uDE00x"}`,
		"escaped backslash":    `{"user_id":"\\ud83d"}`,
		"two backslashes":      `{"user_id":"a\\\\ude00"}`,
		"slash":                `{"user_id":"a\/b"}`,
		"password first":       `{"password":"\ud83d\ude00","user_id":"u"}`,
		"names of two objects": `{"password":{"password":{"password":"user_id"},"a":[{"a":1},{"a":1}]},"user_id":"u"}`,
		"password with NUL":    `{"password":"\u0000","user_id":"u"}`,
		"noncharacter":         `{"user_id":"\uffff"}`,
		"replacement char":     `{"user_id":"` + "\ufffd" + `"}`,
		"BOM inside":           `{"user_id":"` + "\ufeff" + `"}`,
		"looks like a comment": `{"user_id":"/* x */"}`,
	}
	good["escapes"] = `{"\u0075ser_id":"a"}`
	for name, body := range good {
		assert.Equal(h, answer{Status: 200, Code: "", Cookie: "set"}, h.Answer(h.loginBody(body, asJSON)), name)
	}
	x := `"user_id":"x"`
	for name, body := range map[string]string{
		"empty":                       "",
		"blank":                       " ",
		"null":                        "null",
		"true":                        "true",
		"number":                      "17",
		"string":                      `"user_id"`,
		"array":                       `[]`,
		"array of it":                 `[{` + x + `}]`,
		"cut":                         `{` + x,
		"cut in a string":             `{"user_id":"x`,
		"cut in an escape":            `{"user_id":"\`,
		"cut in a \\u":                `{"user_id":"\u00`,
		"trailing comma":              `{` + x + `,}`,
		"leading comma":               `{,` + x + `}`,
		"two objects":                 `{` + x + `}{` + x + `}`,
		"trailing brace":              `{` + x + `}}`,
		"trailing bracket":            `{` + x + `}]`,
		"trailing word":               `{` + x + `} x`,
		"trailing null":               `{` + x + `} null`,
		"trailing NUL":                `{` + x + "}\x00",
		"trailing comment":            `{` + x + `}//`,
		"comment":                     `{/**/` + x + `}`,
		"twice":                       `{` + x + `,` + x + `}`,
		"twice, differing":            `{"user_id":"a","user_id":"b"}`,
		"twice, escaped":              `{"user_id":"a","user\u005fid":"b"}`,
		"password twice":              `{` + x + `,"password":"a","password":"a"}`,
		"twice in an object":          `{` + x + `,"password":[{"a":1,"b":{"a":2},"a":3}]}`,
		"null twice":                  `{"user_id":null,"user_id":"b"}`,
		"unknown":                     `{` + x + `,"admin":true}`,
		"unknown, before":             `{"admin":true,` + x + `}`,
		"other case":                  `{"User_ID":"x"}`,
		"upper case":                  `{"USER_ID":"x"}`,
		"case folding K":              `{"user_id":"x","pa` + "\u017f\u017f" + `word":"a"}`,
		"empty name":                  `{` + x + `,"":1}`,
		"name with blank":             `{"user_id ":"x"}`,
		"proto":                       `{` + x + `,"__proto__":{}}`,
		"remember":                    `{` + x + `,"remembered":true}`,
		"single quotes":               `{'user_id':'x'}`,
		"bare name":                   `{user_id:"x"}`,
		"missing colon":               `{"user_id" "x"}`,
		"name only":                   `{"user_id"}`,
		"number as name":              `{1:"x"}`,
		"NaN":                         `{` + x + `,"password":NaN}`,
		"leading zero":                `{` + x + `,"password":01}`,
		"plus":                        `{` + x + `,"password":+1}`,
		"BOM":                         "\ufeff{" + x + `}`,
		"UTF-16":                      "\xff\xfe{\x00}\x00",
		"invalid UTF-8":               "{\"user_id\":\"a\xff\"}",
		"overlong":                    "{\"user_id\":\"a\xc0\xaf\"}",
		"encoded surrogate":           "{\"user_id\":\"a\xed\xa0\x80\"}",
		"invalid UTF-8 in name":       "{\"user_id\xff\":\"a\"}",
		"invalid UTF-8 in password":   "{" + x + ",\"password\":\"\xff\"}",
		"invalid UTF-8 at the end":    "{" + x + "}\xff",
		"lone high":                   `{"user_id":"\ud83d"}`,
		"lone low":                    `{"user_id":"\ude00"}`,
		"high then text":              `{"user_id":"\ud83dx"}`,
		"high then high":              `{"user_id":"\ud83d\ud83d\ude00"}`,
		"high then escape":            `{"user_id":"\ud83d\n"}`,
		"high then backslash":         `{"user_id":"\ud83d\\ude00"}`,
		"high, split":                 `{"user_id":"\ud83d","password":"\ude00"}`,
		"pair then low":               `{"user_id":"\ud83d\ude00\ude00"}`,
		"lone in password":            `{` + x + `,"password":"\udc00"}`,
		"lone in name":                `{` + x + `,"\ud800":1}`,
		"lone in an ignored password": `{` + x + `,"password":["\ud800"]}`,
		"control in string":           "{\"user_id\":\"a\nb\"}",
		"NUL in string":               "{\"user_id\":\"a\x00b\"}",
		"bad escape":                  `{"user_id":"\x41"}`,
		"form":                        "user_id=x&password=y",
		"nested":                      strings.Repeat(`{"a":`, 2000) + "1" + strings.Repeat("}", 2000),
		"nested arrays":               strings.Repeat("[", 15000),
		"deep password":               `{` + x + `,"password":` + strings.Repeat("[", 11000),
		"vertical tab":                "\v{" + x + "}",
		"nbsp":                        "\u00a0{" + x + "}",
	} {
		resp := h.loginBody(body, asJSON)
		assert.Equal(h, answer{Status: 400, Code: "malformed_body"}, h.Answer(resp), name)
	}
}

func checkUserIDRules(h *harness) {
	bad := map[string]string{
		"missing":            `{}`,
		"missing, password":  `{"password":"x"}`,
		"null":               `{"user_id":null}`,
		"empty":              `{"user_id":""}`,
		"number":             `{"user_id":17}`,
		"true":               `{"user_id":true}`,
		"array":              `{"user_id":["x"]}`,
		"object":             `{"user_id":{"a":"b"}}`,
		"257 bytes":          `{"user_id":"` + strings.Repeat("x", 257) + `"}`,
		"258 bytes in UTF-8": `{"user_id":"` + strings.Repeat("ü", 129) + `"}`,
		"260 bytes, escaped": `{"user_id":"` + strings.Repeat(`\ud83d\ude00`, 65) + `"}`,
		"10 KiB":             `{"user_id":"` + strings.Repeat("x", 10<<10) + `"}`,
	}
	for r := rune(0); r <= 0x9f; r++ {
		if r < 0x20 || r >= 0x7f {
			bad[fmt.Sprintf("U+%04X", r)] = fmt.Sprintf(`{"user_id":"a\u%04xb"}`, r)
			bad[fmt.Sprintf("U+%04X last", r)] = fmt.Sprintf(`{"user_id":"\u%04x"}`, r)
		}
		if r >= 0x7f {
			bad[fmt.Sprintf("U+%04X unescaped", r)] = `{"user_id":"a` + string(r) + `"}`
		}
	}
	for name, body := range bad {
		assert.Equal(h, answer{Status: 422, Code: "invalid_user_id"}, h.Answer(h.loginBody(body, asJSON)), name)
	}
	for name, user := range map[string]string{
		"256 bytes": strings.Repeat("x", 256), "256 bytes, escaped": strings.Repeat(`\ud83d\ude00`, 64), "not Cc: U+00A0": `\u00a0`, "not Cc: U+00AD": `\u00ad`,
		"not Cc: U+200B": `\u200b`, "not Cc: U+2028": `\u2028`, "not Cc: U+FEFF": `\ufeff`, "blank": " ",
	} {
		assert.Equal(h, 200, h.loginBody(`{"user_id":"`+user+`"}`, asJSON).Status, name)
	}
}

// Each request has a mistake of every later check as well.
func checkBodyOrder(h *harness) {
	big := strings.Repeat("x", 17<<10)
	assert.Equal(h, 413, h.loginBody(big, "Content-Type: text/plain").Status, "413 before 415")
	assert.Equal(h, 415, h.loginBody("not json", "Content-Type: text/plain").Status, "415 before 400")
	assert.Equal(h, 415, h.loginBody("not json", asJSON, "Content-Encoding: gzip").Status, "415 before 400")
	assert.Equal(h, 400, h.loginBody(`{"user_id":"","admin":1}`, asJSON).Status, "400 before 422")
	assert.Equal(h, 400, h.loginBody(`{"user_id":"","user_id":""}`, asJSON).Status, "400 before 422")
	token := h.Login(h.User())
	creates := h.Store.Calls(httpcontract.OpCreate)
	for _, body := range []string{"", "{}", `{"user_id":17}`} {
		assert.Empty(h, h.loginBody(body, asJSON, h.Cookie(token)).Header["Set-Cookie"])
	}
	assert.Equal(h, creates, h.Store.Calls(httpcontract.OpCreate), "a refused login creates nothing")
	assert.NotEmpty(h, h.Me(token), "and leaves the carried session alone")
}
