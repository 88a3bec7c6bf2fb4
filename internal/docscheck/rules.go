package main

// rule is what docs-check does about one command of a page beside running it.
type rule struct {
	page, begins string
	unrun        string   // why it is not run here; the rest is empty then
	before       string   // bash that makes what the page takes for granted
	replace      []string // pairs: what a reader has to fill in, and what is this machine's
	input        string   // what is typed
	serves       string   // it is a server, which answers at this URL and is ended with the page
	once, then   string   // what is done once it has printed something
	// after is bash that fails if the command did not do what the page says. Behind a pipe grep reads all of it (no -q): a command
	// that writes to a pipe which is closed fails.
	after string
}

// inClone are the pages whose commands are typed in a clone of the sources, and not anywhere.
var inClone = map[string]bool{"README.md": true, "CONTRIBUTING.md": true}

// unrunPages are the pages of which no command is run here, and why.
var unrunPages = map[string]string{
	"docs/install.md": "installs packages and changes the machine; deploy.TestInstallPage follows it on a Debian of its own",
}

// server is one that a page takes for granted.
type server struct{ command, url string }

const (
	dev     = "http://127.0.0.1:3000"
	trusted = "http://127.0.0.1:3010"
	key     = "0123456789abcdefghijklmnopqrstuvwxyz"
)

var servers = map[string][]server{
	"docs/http.md": {
		{"coatcheck serve --dev", dev + "/auth/me"},
		{"echo " + key + " >keys && chmod 600 keys && exec coatcheck serve --dev --login trusted --login-key-file keys --listen 127.0.0.1:3010 --admin-listen off", trusted + "/auth/me"},
	},
	"docs/operations.md": {{"exec coatcheck serve --dev --log-format json 2>log", dev + "/auth/me"}},
	"docs/watch.md":      {{"coatcheck serve --dev", dev + "/auth/me"}},
}

// rules are in the order of the pages. Each begins as exactly one command does.
var rules = []rule{
	{page: "README.md", begins: "make run", serves: dev + "/auth/me"},
	{page: "README.md", begins: "make test", unrun: "takes minutes; .ci/run runs it beside this"},
	{page: "README.md", begins: "curl -sS -b jar.txt -c jar.txt -w ' %{http_code}\\n' -H", before: "rm -f jar.txt"},
	{page: "README.md", begins: "sudo dpkg -i", unrun: "installs a package; deploy.TestPackages does so on a Debian of its own"},
	{page: "README.md", begins: "sudo install", unrun: "needs the package; deploy.TestPackages runs this line"},
	{page: "README.md", begins: "coatcheck hash-password --user ada | sudo", unrun: "needs the package; deploy.TestPackages runs this line"},
	{page: "README.md", begins: "sudo sed", unrun: "needs the package; deploy.TestPackages runs this line"},
	{page: "README.md", begins: "sudo -u coatcheck coatcheck doctor", unrun: "needs the package; deploy.TestPackages runs this line"},
	{page: "README.md", begins: "sudo systemctl", unrun: "needs systemd as the first process"},
	{page: "docs/operations.md", begins: "systemctl daemon-reload", unrun: "needs systemd as the first process; deploy.TestSocketUnit runs this line"},
	{page: "docs/operations.md", begins: "systemctl stop", unrun: "needs systemd as the first process; deploy.TestSocketUnit runs this line"},
	{page: "docs/operations.md", begins: "systemctl enable", unrun: "needs systemd as the first process; deploy.TestSocketUnit runs this line"},

	{page: "CONTRIBUTING.md", begins: "make bench BENCH=Me", unrun: "takes a quarter of an hour; make bench-once runs each benchmark"},
	{page: "CONTRIBUTING.md", begins: "go tool -modfile=tools/go.mod benchstat", before: `
		for i in 1 2 3 4 5 6; do echo "BenchmarkMe-2 1000 9$i.0 ns/op"; done >before.txt
		for i in 1 2 3 4 5 6; do echo "BenchmarkMe-2 1000 4$i.0 ns/op"; done >after.txt`},

	{
		page: "docs/device-bound.md", begins: "coatcheck serve", before: `
		echo 'correct horse battery staple' | coatcheck hash-password --user ada >users && chmod 600 users
		openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=localhost -keyout key.pem -out cert.pem 2>/dev/null`,
		serves: "https://127.0.0.1:3000/auth/me",
		after: `curl -sSk -D - -H 'Content-Type: application/json' -d '{"user_id":"ada","password":"correct horse battery staple"}' https://127.0.0.1:3000/auth/login |
			grep -i '^Secure-Session-Registration:'`,
	},

	{page: "docs/http.md", begins: "curl -sS -b jar.txt -c jar.txt -H", after: "grep -q '[^#]coatcheck' jar.txt && curl -sS -b jar.txt " + dev + "/auth/me | grep '\"user-42\"'"},
	{
		page: "docs/http.md", begins: "curl -sS -H 'Authorization", replace: []string{" KEY'", " " + key + "' -f", dev, trusted, "-D -", "-D - -o answer"},
		after: `grep -q '"user_id":"user-42"' answer`,
	},
	{page: "docs/http.md", begins: "curl -sS -b jar.txt -c jar.txt -X POST", after: "curl -sS -b jar.txt " + dev + "/auth/me | grep '\"authenticated\":false'"},

	{
		page: "docs/identity.md", begins: "coatcheck hash-password", input: "correct horse battery staple\n", replace: []string{"'Ann A'", "'Ann A' | tee users"},
		after: `grep -q '^ann:\$argon2id\$v=19\$m=19456,t=2,p=1\$.* groups=staff,ops email=ann@example.com name=Ann%20A$' users`,
	},
	// Nobody answers at the issuer's address; server/browsertest logs in at a provider.
	{
		page: "docs/identity.md", begins: "coatcheck serve --login oidc", before: "echo the-secret >client-secret && chmod 600 client-secret", replace: []string{"/etc/coatcheck/", ""},
		serves: dev + "/auth/me", after: `[ "$(curl -sS -o /dev/null -w '%{http_code}' ` + dev + `/auth/oidc/login)" = 503 ]`,
	},

	{page: "docs/operations.md", begins: "helm install", unrun: "needs a cluster; deploy/chart/test renders the chart"},
	{page: "docs/operations.md", begins: "coatcheck completion", replace: []string{"/etc/bash_completion.d/", ""}, after: ". ./coatcheck && complete -p coatcheck"},
	{page: "docs/operations.md", begins: "coatcheck man", replace: []string{"/usr/share/man/man1/", ""}, after: "grep -q '^[.]TH' coatcheck.1"},
	{
		page: "docs/operations.md", begins: "jq -nRr", before: `
		for user in "o'neil x" ann bob; do
			curl -sSf -c "jar-$user" -H 'Content-Type: application/json' -d "{\"user_id\":\"$user\"}" ` + dev + `/auth/login >/dev/null
		done
		for user in "o'neil x" ann; do curl -sSf -b "jar-$user" -c "jar-$user" -X POST ` + dev + `/auth/refresh >/dev/null; done
		until [ "$(grep -c '"event":"refresh"' log)" = 2 ]; do sleep 0.05; done
		cp log coatcheck.log`,
		// The clock of this machine may be anywhere.
		replace: []string{"2026-11-23T16:00", "1999"},
		after: `for user in "o'neil x" ann bob; do curl -sSf -b "jar-$user" ` + dev + `/auth/me; done >me
			[ "$(grep -o '"authenticated":false' me | wc -l)" = 2 ] && grep -q '"user_id":"bob"' me`,
	},

	{
		page: "docs/watch.md", begins: "curl -N",
		before: `curl -sSf -c jar -H 'Content-Type: application/json' -d '{"user_id":"ann"}' ` + dev + `/auth/login >/dev/null
			awk '$6 == "coatcheck" { print "COOKIE=" $6 "=" $7 }' jar >env`,
		replace: []string{"curl -N", "curl -sSN"}, // the progress meter of curl is not shown where it prints to a terminal
		once:    ": alive\n", then: "curl -sSf -b jar -X POST " + dev + "/auth/logout",
	},
}
