package login

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/percent"
	"github.com/coatcheck/coatcheck/server/internal/remote"
)

// parseFields reads what stands behind the hash in a line of the users file: name=value, separated by blanks, each value
// percent-encoded; that of groups is a list with commas between its entries, each of which is encoded by itself.
func parseFields(user, fields string) (coatcheck.ClaimSet, error) {
	members := make(map[string]any)
	for field := range strings.FieldsSeq(fields) {
		name, encoded, ok := strings.Cut(field, "=")
		if !ok { // it may be a part of a hash, and is not shown
			return coatcheck.ClaimSet{}, errBehindHash
		}
		if _, twice := members[name]; twice {
			return coatcheck.ClaimSet{}, fmt.Errorf("field %.40q: is there twice", name)
		}
		var parts []string
		for part := range strings.SplitSeq(encoded, ",") {
			value, err := url.PathUnescape(part)
			if err != nil {
				return coatcheck.ClaimSet{}, fmt.Errorf("field %.40q: its percent-encoding is wrong", name)
			}
			parts = append(parts, value)
		}
		members[name] = strings.Join(parts, ",")
		if name == coatcheck.ClaimGroups {
			members[name] = parts
			if encoded == "" {
				members[name] = []string{}
			}
		}
	}
	return claimsOf(user, members)
}

// claimsOf returns the members as claims that fit a session of the user.
func claimsOf(user string, members map[string]any) (coatcheck.ClaimSet, error) {
	for name, value := range members {
		if text, ok := value.(string); ok && !utf8.ValidString(text) || !utf8.ValidString(name) {
			return coatcheck.ClaimSet{}, fmt.Errorf("field %.40q: not UTF-8", name)
		}
		if list, ok := value.([]string); ok && !utf8.ValidString(strings.Join(list, "")) {
			return coatcheck.ClaimSet{}, fmt.Errorf("field %.40q: not UTF-8", name)
		}
	}
	text, err := json.Marshal(members)
	if err != nil {
		return coatcheck.ClaimSet{}, err
	}
	claims, err := coatcheck.ParseClaims(text)
	if err == nil && !remote.Fit(user, claims) {
		err = fmt.Errorf("%w for the headers of verify", coatcheck.ErrClaimsTooLarge)
	}
	return claims, err
}

// Fields are the claims that UsersLine writes.
type Fields struct {
	Name, Email string
	Groups      []string
}

func (f Fields) members() map[string]any {
	members := make(map[string]any)
	if f.Name != "" {
		members[coatcheck.ClaimName] = f.Name
	}
	if f.Email != "" {
		members[coatcheck.ClaimEmail] = f.Email
	}
	if len(f.Groups) > 0 {
		members[coatcheck.ClaimGroups] = f.Groups
	}
	return members
}

// String returns the fields as they stand behind the hash, with a blank before each.
func (f Fields) String() string {
	var b strings.Builder
	sep := " groups="
	for _, group := range f.Groups {
		b.WriteString(sep + encodeField(group))
		sep = ","
	}
	if f.Email != "" {
		b.WriteString(" email=" + encodeField(f.Email))
	}
	if f.Name != "" {
		b.WriteString(" name=" + encodeField(f.Name))
	}
	return b.String()
}

// encodeField percent-encodes what would end a field, an entry of a list or the name of a line, and what Append encodes.
func encodeField(s string) string {
	text := string(percent.Append(nil, []byte(s)))
	return strings.NewReplacer(",", "%2C", ":", "%3A", "=", "%3D").Replace(text)
}
