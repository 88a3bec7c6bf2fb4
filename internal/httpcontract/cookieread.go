package httpcontract

import (
	"strings"

	"github.com/stretchr/testify/assert"
)

var cookieReadRules = []Rule{
	{Name: "vectors", Transport: true, Check: checkCookieVectors},
	{Name: "a full header of cookies", Transport: true, Check: checkFullHeader},
}

// The verdicts on a vector, the same on every route.
const (
	live    = "the user"
	nobody  = "anonymous"
	cleared = "anonymous, cleared"
	refused = "400"
)

// cookieVectors are request headers. N stands for the cookie's name, T for a live token, P for the token before it in its
// grace, O for the live token of another session, D for a well-formed token that was never issued, E for the token of a
// session that was ended a moment ago, W for a token of T's Key with another secret.
var cookieVectors = []struct {
	name    string
	head    []string
	verdict string
}{
	{"plain", []string{"Cookie: {N}={T}"}, live},
	{"none", nil, nobody},
	{"empty header", []string{"Cookie:"}, nobody},
	{"blank header", []string{"Cookie:    "}, nobody},
	{"header name in lower case", []string{"cookie: {N}={T}"}, live},
	{"header name in upper case", []string{"COOKIE: {N}={T}"}, live},
	{"no blank after the colon", []string{"Cookie:{N}={T}"}, live},
	{"blanks round the header value", []string{"Cookie: \t {N}={T}\t  "}, live},

	{"first of three", []string{"Cookie: {N}={T}; a=1; b=2"}, live},
	{"in the middle", []string{"Cookie: a=1; {N}={T}; b=2"}, live},
	{"last", []string{"Cookie: a=1; b=2; {N}={T}"}, live},
	{"no blank after ;", []string{"Cookie: a=1;{N}={T};b=2"}, live},
	{"blanks after ;", []string{"Cookie: a=1;  \t {N}={T};   b=2"}, live},
	{"; at the end", []string{"Cookie: {N}={T};"}, live},
	{"many ;", []string{"Cookie: ;;; ;{N}={T};;;"}, live},
	{"neighbour without =", []string{"Cookie: flag; {N}={T}; other"}, live},
	{"neighbour without a name", []string{"Cookie: =x; {N}={T}"}, live},
	{"neighbour with =", []string{"Cookie: a=b=c=d; {N}={T}"}, live},
	{"neighbour not UTF-8", []string{"Cookie: a=\xff\xfe; {N}={T}"}, live},
	{"neighbour long", []string{"Cookie: a=" + strings.Repeat("x", 4000) + "; {N}={T}"}, live},

	{"blank before ;", []string{"Cookie: {N}={T} ; a=1"}, cleared},
	{"tab before ;", []string{"Cookie: {N}={T}\t; a=1"}, cleared},
	{"blank after =", []string{"Cookie: {N}= {T}"}, cleared},
	{"blank before =", []string{"Cookie: {N} ={T}"}, nobody},
	{"comma instead of ;", []string{"Cookie: a=1, {N}={T}"}, nobody},
	{"comma after", []string{"Cookie: {N}={T}, a=1"}, cleared},
	{"& instead of ;", []string{"Cookie: a=1&{N}={T}"}, nobody},

	{"name in upper case", []string{"Cookie: __HOST-COATCHECK={T}"}, nobody},
	{"name in lower case", []string{"Cookie: __host-coatcheck={T}"}, nobody},
	{"name with one other letter", []string{"Cookie: __Host-Coatcheck={T}"}, nobody},
	{"without the prefix", []string{"Cookie: coatcheck={T}"}, nobody},
	{"__Secure- instead", []string{"Cookie: __Secure-coatcheck={T}"}, nobody},
	{"name cut", []string{"Cookie: __Host-coatchec={T}"}, nobody},
	{"name longer", []string{"Cookie: {N}s={T}"}, nobody},
	{"name with a prefix", []string{"Cookie: x{N}={T}"}, nobody},
	{"name after a dot", []string{"Cookie: .{N}={T}"}, nobody},
	{"name as a part of another", []string{"Cookie: a={N}={T}"}, nobody},
	{"percent-encoded name", []string{"Cookie: %5F%5FHost-coatcheck={T}"}, nobody},
	{"percent-encoded in part", []string{"Cookie: __Host%2Dcoatcheck={T}"}, nobody},
	{"percent-encoded =", []string{"Cookie: {N}%3D{T}"}, nobody},
	{"name in brackets", []string{"Cookie: [{N}]={T}"}, nobody},
	{"name with []", []string{"Cookie: {N}[]={T}"}, nobody},
	{"name with an index", []string{"Cookie: {N}[0]={T}"}, nobody},
	{"PHP's bracket", []string{"Cookie: ..Host-coatcheck={T}"}, nobody},
	{"_ as .", []string{"Cookie: __Host.coatcheck={T}"}, nobody},
	{"_ as blank", []string{"Cookie: __Host coatcheck={T}"}, nobody},
	{"name quoted", []string{`Cookie: "{N}"={T}`}, nobody},
	{"NBSP before the name", []string{"Cookie: \u00a0{N}={T}"}, nobody},
	{"NBSP after the name", []string{"Cookie: {N}\u00a0={T}"}, nobody},
	{"Latin-1 NBSP before the name", []string{"Cookie: \xa0{N}={T}"}, nobody},
	{"en quad before the name", []string{"Cookie: \u2000{N}={T}"}, nobody},
	{"ideographic space before the name", []string{"Cookie: \u3000{N}={T}"}, nobody},
	{"NEL before the name", []string{"Cookie: a=1;\u0085{N}={T}"}, nobody},
	{"BOM before the name", []string{"Cookie: \ufeff{N}={T}"}, nobody},
	{"zero-width space in the name", []string{"Cookie: __Host-\u200bcoatcheck={T}"}, nobody},
	{"fullwidth letters", []string{"Cookie: __Host-\uff43oatcheck={T}"}, nobody},
	{"Kelvin sign", []string{"Cookie: __Host-coatchec\u212a={T}"}, nobody},
	{"nameless, the name as value", []string{"Cookie: {N}"}, nobody},
	{"nameless, the token as value", []string{"Cookie: {T}"}, nobody},
	{"nameless, = first", []string{"Cookie: ={T}"}, nobody},
	{"nameless, = and the pair", []string{"Cookie: ={N}={T}"}, nobody},
	{"nameless, == and the pair", []string{"Cookie: =={N}={T}"}, nobody},
	{"$Version", []string{"Cookie: $Version=1; {N}={T}; $Path=/"}, live},
	{"$Version quoted", []string{`Cookie: $Version="1"; {N}="{T}"; $Path="/"`}, live},
	{"$Version quoted, as the JDK sends it", []string{`Cookie: $Version="1"; {N}="{T}";$Path="/"`}, live},
	{"quoted twice", []string{`Cookie: {N}=""{T}""`}, cleared},
	{"quoted with a blank", []string{`Cookie: {N}=" {T}"`}, cleared},

	{"quoted", []string{`Cookie: {N}="{T}"`}, live},
	{"quote before", []string{`Cookie: {N}="{T}`}, cleared},
	{"quote after", []string{`Cookie: {N}={T}"`}, cleared},
	{"single quotes", []string{`Cookie: {N}='{T}'`}, cleared},
	{"inside a neighbour's quotes", []string{`Cookie: a="x; {N}={T}; y"`}, live},
	{"after a neighbour's open quote", []string{`Cookie: a="x; {N}={T}`}, live},
	{"before a neighbour's close quote", []string{`Cookie: {N}={T}; a=x"`}, live},
	{"after an escaped quote", []string{`Cookie: a="x\"; {N}={T}`}, live},
	{"a neighbour's quotes hide nothing", []string{`Cookie: a="; {N}={T}; {N}={O}; b="`}, nobody},
	{"backslash before ;", []string{`Cookie: a=x\; {N}={T}`}, live},

	{"value empty", []string{"Cookie: {N}="}, cleared},
	{"value cut", []string{"Cookie: {N}=abc"}, cleared},
	{"value padded", []string{"Cookie: {N}={T}="}, cleared},
	{"value with a suffix", []string{"Cookie: {N}={T}x"}, cleared},
	{"value percent-encoded", []string{"Cookie: {N}=%41{T}"}, cleared},
	{"value with NBSP", []string{"Cookie: {N}={T}\u00a0"}, cleared},
	{"value with attributes", []string{"Cookie: {N}={T}; Path=/; Secure; HttpOnly"}, live},
	{"value long", []string{"Cookie: {N}=" + strings.Repeat("A", 7000)}, cleared},
	{"unknown", []string{"Cookie: {N}={D}"}, cleared},
	{"wrong secret", []string{"Cookie: {N}={W}"}, nobody},
	{"ended", []string{"Cookie: {N}={E}"}, nobody},
	{"predecessor in its grace", []string{"Cookie: {N}={P}"}, live},

	{"two lines, second", []string{"Cookie: a=1", "Cookie: {N}={T}"}, live},
	{"two lines, first", []string{"Cookie: {N}={T}", "Cookie: a=1"}, live},
	{"three lines", []string{"Cookie: a=1", "Cookie: {N}={T}", "Cookie: b=2"}, live},
	{"lines apart", []string{"Cookie: a=1", "X: y", "cookie: {N}={T}"}, live},
	{"an empty line first", []string{"Cookie:", "Cookie: {N}={T}"}, live},
	{"a pair does not go over two lines", []string{"Cookie: {N}=", "Cookie: {T}"}, cleared},
	{"a name does not go over two lines", []string{"Cookie: __Host-", "Cookie: coatcheck={T}"}, nobody},
	{"two lines, live and dead", []string{"Cookie: {N}={T}", "Cookie: {N}={D}"}, live},
	{"two lines, dead and live", []string{"Cookie: {N}={D}", "Cookie: {N}={T}"}, live},
	{"two lines, two live", []string{"Cookie: {N}={T}", "Cookie: {N}={O}"}, nobody},
	{"three lines, two live", []string{"Cookie: {N}={O}", "Cookie: {N}={D}", "Cookie: {N}={T}"}, nobody},

	{"twice the same", []string{"Cookie: {N}={T}; {N}={T}"}, live},
	{"five times the same", []string{"Cookie: {N}={T}; {N}={T}; {N}={T}; {N}={T}; {N}={T}"}, live},
	{"live and dead", []string{"Cookie: {N}={T}; {N}={D}"}, live},
	{"dead and live", []string{"Cookie: {N}={D}; {N}={T}"}, live},
	{"dead, live, dead", []string{"Cookie: {N}={D}; {N}={T}; {N}={E}"}, live},
	{"live and malformed", []string{"Cookie: {N}={T}; {N}=x; {N}="}, live},
	{"malformed and live", []string{`Cookie: {N}="; {N}={T}`}, live},
	{"ten malformed and live", []string{"Cookie: " + strings.Repeat("{N}=x; ", 10) + "{N}={T}"}, live},
	{"live and its wrong secret", []string{"Cookie: {N}={T}; {N}={W}"}, live},
	{"wrong secret and live", []string{"Cookie: {N}={W}; {N}={T}"}, live},
	{"live and its predecessor", []string{"Cookie: {N}={T}; {N}={P}"}, live},
	{"predecessor and live", []string{"Cookie: {N}={P}; {N}={T}"}, live},
	{"predecessor, live and dead", []string{"Cookie: {N}={P}; {N}={D}; {N}={T}"}, live},
	{"two live", []string{"Cookie: {N}={T}; {N}={O}"}, nobody},
	{"two live, turned round", []string{"Cookie: {N}={O}; {N}={T}"}, nobody},
	{"two live and dead", []string{"Cookie: {N}={T}; {N}={D}; {N}={O}"}, nobody},
	{"two live, one by its predecessor", []string{"Cookie: {N}={P}; {N}={O}"}, nobody},
	{"four candidates, one live", []string{"Cookie: {N}={T}; {N}={D}; {N}={E}; {N}={W}"}, nobody},
	{"four candidates, live last", []string{"Cookie: {N}={D}; {N}={E}; {N}={W}; {N}={T}"}, nobody},
	{"dead and malformed", []string{"Cookie: {N}={D}; {N}=x"}, cleared},
	{"dead and ended", []string{"Cookie: {N}={D}; {N}={E}"}, nobody},
	{"dead and wrong secret", []string{"Cookie: {N}={W}; {N}={D}"}, nobody},

	{"NUL in a neighbour", []string{"Cookie: a=\x00; {N}={T}"}, refused},
	{"bare CR", []string{"Cookie: a=1\r{N}={T}"}, refused},
	{"folded line", []string{"Cookie: a=1;", " {N}={T}"}, live + " or " + refused},
}

func checkCookieVectors(h *Harness) {
	assert.GreaterOrEqual(h, len(cookieVectors), 60)
	for _, v := range cookieVectors {
		for _, route := range append([]Reader{refreshing}, h.Readers...) {
			user := h.User()
			previous := h.Login(user)
			h.Clock.CatchUp()
			ended := h.Login(h.User())
			h.Post("/auth/logout", h.Cookie(ended))
			token := h.Refresh(previous)
			fill := strings.NewReplacer("{N}", h.CookieName, "{T}", token, "{P}", previous, "{O}", h.Login(h.User()), "{D}", MadeUp(), "{E}", ended, "{W}", h.WrongSecret(token))
			head := make([]string, len(v.head))
			for i, line := range v.head {
				head[i] = fill.Replace(line)
			}
			got, want := h.verdict(route, h.Do(route.Method, route.Path, head...), user), v.verdict
			if route.NoCookie && want == cleared {
				want = nobody
			}
			if strings.Contains(want, " or ") {
				assert.Contains(h, want, got, "%s: %s", v.name, route.Path)
			} else {
				assert.Equal(h, want, got, "%s: %s", v.name, route.Path)
			}
		}
	}
}

// verdict returns how a route judged the request's cookies: refused, cleared, nobody, or live if it opened user's session.
func (h *Harness) verdict(route Reader, resp Response, user string) string {
	h.Helper()
	if resp.Status == 400 {
		return refused
	}
	who, cookie := route.User(h, resp), h.CookieOf(resp)
	if who == Unnamed {
		who = user
	}
	switch {
	case who == "" && cookie == "cleared":
		return cleared
	case who == "" && cookie == "":
		return nobody
	case who == user && (cookie == "" || cookie == "set" && route.Path == refreshing.Path):
		return live
	default:
		return "as " + who + ", cookie " + cookie
	}
}

// CKP-05: the valid cookie is found in a header that is full of other cookies.
func checkFullHeader(h *Harness) {
	user := h.User()
	token := h.Login(user)
	for _, filler := range []string{"a=;", ";", h.CookieName + ";", "=;", "a;"} {
		pairs := strings.Repeat(filler, 7900/len(filler))
		assert.Equal(h, user, h.Get("/auth/me", "Cookie: "+pairs+h.CookieName+"="+token).View(h.T).User(), filler)
		assert.Equal(h, user, h.Get("/auth/me", "Cookie: "+h.CookieName+"="+token+";"+pairs).View(h.T).User(), filler)
	}
}
