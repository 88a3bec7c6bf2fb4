package doctor

import (
	"context"

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
	if d.url != nil && d.url.Scheme+"://"+d.url.Host+oidc.CallbackPath != p.RedirectURI() {
		d.say("provider-redirect", Warning, "people come back to %s, which is not at --url: their cookies would be another origin's", p.RedirectURI())
	}
}
