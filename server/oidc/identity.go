package oidc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/strictjson"
)

// mapping is one entry of --oidc-claims, ours=theirs, or of --oidc-allow, claim=pattern.
type mapping struct{ ours, theirs string }

// parseMappings reads entries, and returns what is wrong with each that is; where alone is true, a name alone is mapped to itself.
func parseMappings(entries, usual []string, alone bool) (all []mapping, mistakes []error) {
	if len(entries) == 0 {
		entries = usual
	}
	seen := make(map[string]bool)
	for _, entry := range entries {
		ours, theirs, ok := strings.Cut(strings.TrimSpace(entry), "=")
		if !ok && alone {
			theirs = ours
		}
		switch {
		case ours == "" || theirs == "":
			mistakes = append(mistakes, fmt.Errorf("%.60q: must be name=value", entry))
		case alone && ours == "sub":
			mistakes = append(mistakes, fmt.Errorf("%.60q: is always the user ID, the sub of the provider", ours))
		case alone && seen[ours]:
			mistakes = append(mistakes, fmt.Errorf("%.60q: is there already", ours))
		}
		seen[ours] = true
		all = append(all, mapping{ours, theirs})
	}
	return all, mistakes
}

// said is what the provider said of a person: userinfo, where it has one, and the ID token. A claim that both have is userinfo's.
type said []map[string]any

// notText is in place of a claim that encoding/json would read as another text than it is, see package strictjson. It fits no rule and
// cannot be kept; a claim that nobody asks for keeps nobody out.
type notText struct{}

// readClaims reads the claims of an ID token or of userinfo.
func readClaims(members map[string]json.RawMessage) (map[string]any, error) {
	claims := make(map[string]any, len(members))
	for name, text := range members {
		var value any = notText{}
		if strictjson.Check(text) == nil {
			numbers := json.NewDecoder(bytes.NewReader(text))
			numbers.UseNumber() // a float64 would be the same for two IDs of 64 bits
			if err := numbers.Decode(&value); err != nil {
				return nil, err
			}
		}
		claims[name] = value
	}
	return claims, nil
}

// source returns the claims among which this one is; nil: nobody said it.
func (s said) source(claim string) map[string]any {
	for _, claims := range s {
		if _, ok := claims[claim]; ok {
			return claims
		}
	}
	return nil
}

func (s said) claim(name string) any { return s.source(name)[name] }

// elsewhere reports whether a claim is not said, but is to be had at another place that the provider names, which is not asked (OpenID
// Connect Core 1.0, section 5.6.2). Entra ID says so of the groups of people who are in more than 200. A null says nothing.
func (s said) elsewhere(claim string) bool {
	if s.claim(claim) != nil {
		return false
	}
	for _, claims := range s {
		names, _ := claims["_claim_names"].(map[string]any)
		if _, named := names[claim]; named {
			return true
		}
	}
	return false
}

// verified reports whether the provider vouches for the e-mail address that this claim is: in the source that has the claim, because
// the word of another may be about another address. If that source says neither yes nor no, another that has exactly the same address
// may. Some write the word as text.
func (s said) verified(claim string) bool {
	source := s.source(claim)
	word, found := source["email_verified"]
	for _, other := range s {
		if address, ok := other[claim].(string); !found && ok && source[claim] == address {
			word, found = other["email_verified"]
		}
	}
	return word == true || word == "true"
}

const elsewhereText = "the provider does not send the claim for %s, but names another place for it (_claim_names)"

// admit returns the claims to keep of a person about whom the provider said this, or why the person is not let in.
func (p *Provider) admit(sub string, said said) (coatcheck.ClaimSet, error) {
	if !p.allowed(sub, said) {
		for _, rule := range p.allow {
			if said.elsewhere(p.theirs(rule.ours)) {
				return coatcheck.ClaimSet{}, failf(BadAnswer, elsewhereText, rule.ours)
			}
		}
		return coatcheck.ClaimSet{}, failf(NotAllowed, "none of the rules lets the person in")
	}
	kept := make(map[string]any)
	for _, m := range p.kept {
		values, isList, ok := texts(said.claim(m.theirs))
		switch {
		case said.elsewhere(m.theirs):
			return coatcheck.ClaimSet{}, failf(BadAnswer, elsewhereText, m.ours)
		case !ok:
			return coatcheck.ClaimSet{}, failf(BadAnswer, "the claim for %s is neither a text nor a list of texts", m.ours)
		case values == nil:
		case m.ours == coatcheck.ClaimGroups:
			kept[m.ours] = p.groups(values)
		case isList:
			kept[m.ours] = values
		default:
			kept[m.ours] = values[0]
		}
	}
	if name := p.RemoteUserClaim(); name != "" {
		if text, _ := kept[name].(string); text == "" {
			return coatcheck.ClaimSet{}, failf(NotVerified, "the claim that Remote-User shows is missing")
		}
		if theirs := p.theirs(name); p.isAddress(name, theirs) && !said.verified(theirs) {
			return coatcheck.ClaimSet{}, failf(NotVerified, "the e-mail address is not verified")
		}
	}
	text, err := json.Marshal(kept)
	if err != nil {
		return coatcheck.ClaimSet{}, failf(BadAnswer, "the claims cannot be kept")
	}
	claims, err := coatcheck.ParseClaims(text)
	if errors.Is(err, coatcheck.ErrClaimsTooLarge) {
		return coatcheck.ClaimSet{}, err
	}
	if err != nil {
		return coatcheck.ClaimSet{}, failf(BadAnswer, "the claims have wrong types")
	}
	return claims, nil
}

// theirs is the provider's name of one of our claims.
func (p *Provider) theirs(ours string) string {
	for _, m := range p.kept {
		if m.ours == ours {
			return m.theirs
		}
	}
	return ours
}

// groups returns those that are kept.
func (p *Provider) groups(all []string) []string {
	kept := []string{}
	for _, group := range all {
		keep := len(p.opt.Groups) == 0
		for _, pattern := range p.opt.Groups {
			keep = keep || matches(pattern, group)
		}
		if keep && group != "" {
			kept = append(kept, group)
		}
	}
	return kept
}

// allowed reports whether one of the rules holds. A rule about an e-mail address holds for a verified one only, because at many
// providers a person may enter any.
func (p *Provider) allowed(sub string, said said) bool {
	if len(p.allow) == 0 {
		return true
	}
	for _, rule := range p.allow {
		theirs := p.theirs(rule.ours)
		values, _, _ := texts(said.claim(theirs))
		if rule.ours == "sub" {
			values = []string{sub}
		}
		pattern := rule.theirs
		for _, value := range values {
			if p.isAddress(rule.ours, theirs) {
				if !said.verified(theirs) {
					continue
				}
				value, pattern = strings.ToLower(value), strings.ToLower(pattern)
			}
			if matches(pattern, value) {
				return true
			}
		}
	}
	return false
}

// isAddress reports whether a claim is an e-mail address that must be verified: what we call email, what the provider calls so, because
// --oidc-claims can give either name to another claim, and what we call email under any other name.
func (p *Provider) isAddress(ours, theirs string) bool {
	return ours == coatcheck.ClaimEmail || theirs == "email" || theirs == p.theirs(coatcheck.ClaimEmail)
}

// texts returns a claim as texts: of a text, a number, as it was written, a truth value, or a list of texts. It is nil where there is none.
func texts(value any) (all []string, isList, ok bool) {
	switch v := value.(type) {
	case nil:
		return nil, false, true
	case string:
		return []string{v}, false, true
	case bool:
		return []string{strconv.FormatBool(v)}, false, true
	case json.Number:
		return []string{v.String()}, false, true
	case []any:
		all = make([]string, 0, len(v))
		for _, one := range v {
			text, isText := one.(string)
			if !isText {
				return nil, true, false
			}
			all = append(all, text)
		}
		return all, true, true
	default:
		return nil, false, false
	}
}

// matches reports whether the text is of the pattern, in which * stands for any text.
func matches(pattern, text string) bool {
	first, rest, more := strings.Cut(pattern, "*")
	if !more {
		return pattern == text
	}
	text, ok := strings.CutPrefix(text, first)
	if !ok {
		return false
	}
	parts := strings.Split(rest, "*")
	last := parts[len(parts)-1]
	for _, part := range parts[:len(parts)-1] {
		i := strings.Index(text, part)
		if i < 0 {
			return false
		}
		text = text[i+len(part):]
	}
	return strings.HasSuffix(text, last)
}
