package doctor

import (
	"context"
	"net/url"

	"github.com/coatcheck/coatcheck/internal/origin"
	"github.com/coatcheck/coatcheck/server/oidc"
)

// provider reports what the provider of login mode oidc answers.
func (d *doctor) provider(ctx context.Context, p *oidc.Provider) {
	defer p.Close()
	for _, f := range p.Examine(ctx) {
		result := Fine
		if f.Bad {
			result = Problem
		}
		d.say(f.About, result, "%s", f.Text)
	}
	if d.url != nil && !d.sameOrigin(p.RedirectURI()) {
		d.say("provider-redirect", Warning, "people come back to %s, which is not at --url: their cookies would be another origin's", p.RedirectURI())
	}
}

// sameOrigin reports whether an address is of the origin of --url, in whatever way the two are written.
func (d *doctor) sameOrigin(address string) bool {
	u, err := url.Parse(address)
	if err != nil {
		return false
	}
	theirs, err := origin.Of(u)
	ours, oursErr := origin.Of(d.url)
	return err == nil && oursErr == nil && theirs == ours
}
