//go:build real

package deploy_test

import (
	"strings"
	"testing"
)

func caddyRules(config string) string {
	const guarded = "\t\thandle {\n\t\t\troute {\n\t\t\t\timport nobody\n"
	guard := between(config, guarded, "\n\t\t}\n") + "\n\t\t}\n"
	return before(config, "\t\t# A refusal goes to the client as it is", repeat(func(name, path, rule string) string {
		return "\t\t@" + name + " vars_regexp {http.request.orig_uri} `^" + path + `(\?|$)` + "`\n" +
			strings.NewReplacer("handle {", "handle @"+name+" {", "uri /auth/verify?", "uri /auth/verify"+rule).Replace(guard)
	}))
}

func haproxyRules(config string) string {
	guard := between(config, "\nbackend app\n", "\n# What people see")
	config = before(config, "\nbackend app\n", repeat(func(name, _, rule string) string {
		return strings.NewReplacer("backend app", "backend "+name, "/auth/verify\n", "/auth/verify"+rule+"\n").Replace(guard)
	}))
	return before(config, "\tdefault_backend app", repeat(func(name, path, _ string) string {
		return "\tuse_backend " + name + " if { path " + path + " }\n"
	}))
}

func envoyRules(config string) string {
	service := between(config, "                      http_service:\n", "                  - name: envoy.filters.http.header_mutation.after")
	service = strings.ReplaceAll("\n"+strings.TrimSuffix(service, "\n"), "\n", "\n            ")
	return before(config, "                        - match: {prefix: /}\n", repeat(func(_, path, rule string) string {
		return "                        - match: {path: " + path + "}\n" +
			"                          route: *app\n" +
			"                          typed_per_filter_config:\n" +
			"                            envoy.filters.http.ext_authz:\n" +
			"                              \"@type\": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute\n" +
			"                              check_settings:" + strings.Replace(service, "path_override: /auth/verify", "path_override: /auth/verify"+rule, 1) + "\n"
	}))
}

func traefikRules(config string) string {
	guard := between(config, "    coatcheck:\n      forwardAuth:", "    # Nobody has this address.")
	config = before(config, "    # Nobody has this address.", repeat(func(name, _, rule string) string {
		return strings.NewReplacer("    coatcheck:", "    coatcheck-"+name+":", "/auth/verify", "/auth/verify"+rule).Replace(guard)
	}))
	return before(config, "    # What people see who are not logged in", repeat(func(name, path, _ string) string {
		return "    " + name + ":\n      rule: Host(`app.example.com`) && Path(`" + path + "`)\n      entryPoints: [websecure]\n" +
			"      middlewares: [untraced, coatcheck-" + name + "]\n      service: app\n      tls: {}\n"
	}))
}

// The same through the proxies beside nginx.
func TestGroupsThroughOthers(t *testing.T) {
	for name, rules := range map[string]func(string) string{"caddy": caddyRules, "haproxy": haproxyRules, "envoy": envoyRules, "traefik": traefikRules} {
		checkGroups(t, name, ruled{others[name], rules})
	}
}
