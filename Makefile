# Everything that a developer and CI run. `make` alone lists the targets.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Builds from a source archive have no git to ask.
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null)
GOTOOL := go tool -modfile=tools/go.mod
# Without vet, which "make lint" runs, and which costs an empty build cache half a minute. Three packages at a time on one or two cores,
# because those with servers mostly wait: with an empty build cache a tenth less time.
export TESTFLAGS ?= -race -shuffle=on -timeout 10m -parallel 8 $(if $(filter 1 2,$(shell nproc 2>/dev/null)),-p 3) -vet=off
# Tests that count allocations, or do under the race detector a tenth of what they do without it: they run once more without it.
export VOLUME ?= Alloc|Cost|Anonymous|MadeUp|OwnWrites|OfAnotherNode|LostAnswers|Cancellations|KeepsToItsSize|Spray|Crowded|OneShard|Concurrency|AgainstRenewals|PowerCutAfter|EndsTheOldest|MemoryReturns
FUZZTIME ?= 60s
BENCH ?= .
COUNT ?= 1

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: build ## Build, and start a server to try out on 127.0.0.1:3000
	@exec ./bin/coatcheck serve --dev

.PHONY: build
build: ## Build bin/coatcheck, which needs no other file
	CGO_ENABLED=0 go build -trimpath -ldflags "-X main.version=$(VERSION)" -o bin/coatcheck ./cmd/coatcheck

.PHONY: cross
cross: ## Build for every system that releases are made for
	@scripts/cross

.PHONY: test
test: tools ## Run the tests, with the race detector and in random order (4 minutes on two cores)
	@scripts/test

.PHONY: test-short
test-short: ## Run the tests that need only Go: no other programs, no C compiler
	@scripts/test-short

.PHONY: test-real
test-real: tools ## Run the tests beside real proxies, clients, browsers and earlier releases (needs a clone with its history)
	@scripts/install-tools real
	@scripts/install-valkey
	@scripts/test-real $(PACKAGES)

.PHONY: docs-check
docs-check: ## Run the commands that the pages show, in a clone of its own, and compare what they print with the pages
	@scripts/install-tools curl:curl jq:jq openssl:openssl git:git unshare:util-linux setpriv:util-linux ip:iproute2
	@scripts/docs-check

.PHONY: clients
clients: ## Try other people's HTTP clients, and what is made out of the OpenAPI document (part of test-real)
	@scripts/install-tools clients
	go test -tags real -count=1 -run '^(TestClients|TestClientsWalk|TestClientsGenerated|TestSchemathesis)$$' -v ./cmd/coatcheck

.PHONY: stress
stress: tools ## Run the tests N (3) times beside twice as many busy loops as there are cores
	@scripts/stress $(N)

stress: N = 3

.PHONY: lint
lint: ## Check format, style, dependencies and known vulnerabilities (VULNCHECK_OFFLINE=ok where vuln.go.dev is out of reach)
	@scripts/check-deps go.mod
	go mod tidy -diff
	$(GOTOOL) golangci-lint run ./...
	@set -e; for module in bench/*/go.mod deploy/chart/test/go.mod examples/migrating/scs/go.mod fiber3session/go.mod; do (cd "$$(dirname $$module)" && go mod tidy -diff && go vet ./...); done
	@scripts/vulncheck

.PHONY: fmt
fmt: ## Format all Go files
	$(GOTOOL) golangci-lint fmt ./...

.PHONY: fuzz
fuzz: ## Run each fuzz target for FUZZTIME (60s)
	@scripts/fuzz $(FUZZTIME)

.PHONY: bench
bench: tools ## Run the benchmarks that match BENCH (all), COUNT (1) times
	go test -run '^$$' -bench '$(BENCH)' -benchmem -count $(COUNT) -timeout 2h ./...
	cd bench/jwt && go test -run '^$$' -bench '$(BENCH)' -benchmem -count $(COUNT) .

.PHONY: bench-once
bench-once: tools ## Run each benchmark for one iteration, with small stores, to see that it works
	go test -run '^$$' -bench . -benchtime 1x -short -timeout 10m ./...
	cd bench/jwt && go test -run '^$$' -bench . -benchtime 1x -short .

.PHONY: cover
cover: tools ## Write coverage.html and print the total
	@scripts/cover

.PHONY: tools
tools: ## Install the programs that the tests need where they are missing: curl, redis-server, nginx
	@scripts/install-tools test

.PHONY: clean
clean: ## Remove what the other targets made
	rm -rf bin coverage.out coverage.html

# k6 stays built until its version changes: it takes minutes.
bin/k6: k6/go.mod k6/go.sum
	cd k6 && go build -trimpath -o ../bin/k6 go.k6.io/k6

SCRIPT ?= hot-path

.PHONY: k6
k6: build tools bin/k6 ## Run k6/SCRIPT.js (hot-path) against a server of its own
	@k6/run $(SCRIPT)

.PHONY: k6-smoke
k6-smoke: ## Call each route of sessions once with k6 and check the answers
	@$(MAKE) --no-print-directory k6 SCRIPT=smoke

ROUNDS ?= 5
SECONDS ?= 5
CORES ?= 1
RESULT ?= $(or $(wildcard bin/peers/result*.json),bin/peers/result.json)

PEERS_DRIVER := cd bench/peers && go build -o ../../bin/peers/driver . && ../../bin/peers/driver

.PHONY: bench-peers
bench-peers: ## Measure beside the peers, the server on CORES (1): ROUNDS (5) of SECONDS (5); PEERS=flags for more
	@scripts/install-tools wrk:wrk
	$(PEERS_DRIVER) measure -cores $(CORES) -rounds $(ROUNDS) -seconds $(SECONDS) $(PEERS)

.PHONY: bench-open
bench-open: ## Measure latency at fixed rates, the server on CORES (1); OPEN=flags for more
	@scripts/install-tools wrk:wrk
	$(PEERS_DRIVER) open -cores $(CORES) -rounds $(ROUNDS) -seconds $(SECONDS) $(OPEN)

.PHONY: bench-growth
bench-growth: ## Measure what sessions, connections, CORES (1,2,4,8), a hot session and user cost, into docs/growth.md; GROWTH=flags for more
	@scripts/install-tools wrk:wrk
	$(PEERS_DRIVER) growth -cores $(CORES) -rounds $(ROUNDS) -seconds $(SECONDS) $(GROWTH_PAGES) $(GROWTH)

bench-growth: CORES = 1,2,4,8
bench-growth: ROUNDS = 3
bench-growth: SECONDS = 3

GROWTH_PAGES := -page ../../docs/growth.md -chart ../../docs/growth.svg

.PHONY: growth-report
growth-report: ## Put what bench-growth found into docs/growth.md once more
	cd bench/peers && go run . growth-report $(GROWTH_PAGES) ../../bin/peers/growth.json

.PHONY: layers
layers: ## Measure what each layer of a request costs, the server on CORES (1), and write docs/performance.md
	@scripts/install-tools wrk:wrk perf:linux-perf
	$(PEERS_DRIVER) layers -cores $(CORES) -rounds $(ROUNDS) -seconds $(SECONDS) -page ../../docs/performance.md $(LAYERS)

.PHONY: peers-report
peers-report: ## Put the tables and chart of RESULT (bin/peers/result*.json, one for each CORES; later ones last) into README.md and docs
	cd bench/peers && go run . report -table ../../docs/peers.md -chart ../../docs/peers.svg -readme ../../README.md $(abspath $(RESULT))

.PHONY: capacity
capacity: tools ## Measure the capacity model's constants and compare it with three nodes on a Cluster (minutes)
	COATCHECK_CAPACITY=$(abspath bin/capacity.json) go test -tags real -count=1 -run '^TestModel$$' -v -timeout 20m ./bench/capacity

.PHONY: capacity-report
capacity-report: ## Put what capacity found into docs/capacity.md and the calculator (go run ./bench/capacity)
	go run ./bench/capacity -result bin/capacity.json -page docs/capacity.md
	cp bin/capacity.json bench/capacity/measured.json

.PHONY: crash
crash: ## Kill a store on disk KILLS (200) times and look at what is left
	COATCHECK_CRASH_KILLS=$(or $(KILLS),200) go test -run '^TestCrash$$' -v -timeout 20m ./shardstore

DURATION ?= 1m

.PHONY: verify
verify: tools ## Check histories of concurrent clients for DURATION (1m) each; VARIANT=name for one of them
	@mkdir -p bin
	COATCHECK_VERIFY=$(DURATION) COATCHECK_VERIFY_DIR=$(abspath bin) COATCHECK_VERIFY_VARIANT='$(VARIANT)' \
		go test -run '^TestHistories$$' -v -timeout 0 ./server/linear

.PHONY: stop
stop: ## Stop a server under load STOPS (50) times; no request may be lost
	COATCHECK_STOPS=$(or $(STOPS),50) go test -run '^TestNoRequestIsCutOff$$' -v -timeout 30m ./cmd/coatcheck

.PHONY: chaos
chaos: tools ## Run the program for DURATION (1m) on each store while files, descriptors, the log and Redis fail
	COATCHECK_CHAOS=$(DURATION) go test -tags real -count=1 -run '^TestChaos$$' -v -timeout 0 ./cmd/coatcheck

.PHONY: slow-clients
slow-clients: ## Measure others beside 2,000 dripping connections, SLOW_ROUNDS (5) times; wants the machine to itself
	COATCHECK_SLOW_ROUNDS=$(or $(SLOW_ROUNDS),5) go test -run '^TestSlowClientsHoldNobodyUp$$' -v -timeout 30m ./cmd/coatcheck

RATE ?= 500

.PHONY: soak
soak: build tools ## Mixed traffic for DURATION (30m; 2m at least) on STORE=memory|redis, RATE (500) requests/s; fails if anything grows
	cd bench/soak && go run . -store $(or $(STORE),memory) -for $(DURATION) -rate $(RATE) run

.PHONY: soak-report
soak-report: ## Put what soak found into docs/reliability.md
	cd bench/soak && go run . report ../../bin/soak/memory.json ../../bin/soak/redis.json

# The soak needs longer than the histories do.
soak: DURATION = 30m

N ?= 1000000

.PHONY: bench-store
bench-store: ## Measure the memory store with N (1000000) sessions beside others, storm and restore with a million; STORE=flags for more
	cd bench/store && go build -o ../../bin/bench-store . && ../../bin/bench-store -n $(N) -out ../../bin/bench-store.json $(STORE)

.PHONY: store-report
store-report: ## Put what bench-store found into docs/performance.md
	cd bench/store && go run . -report ../../bin/bench-store.json -table ../../docs/performance.md -plot ../../docs/performance-store.svg

.PHONY: bench-redis
bench-redis: tools ## Measure what Redis itself spends on a login, refresh, logout, renewal and miss, in ROUNDS (5), beside a plain SET and GET
	go run ./bench/redis -rounds $(ROUNDS)

.PHONY: login-timing
login-timing: build ## Measure whether the time of 4000 refused logins tells why they were refused (AUT-02)
	cd bench/logins && go build -o ../../bin/logins . && ../../bin/logins timing -program ../../bin/coatcheck

.PHONY: login-storm
login-storm: build ## Measure what a thousand logins at once do to GET /auth/me (AUT-05)
	cd bench/logins && go build -o ../../bin/logins . && ../../bin/logins storm -program ../../bin/coatcheck

.PHONY: canary
canary: ## Search all that the tests and the servers wrote in the last make test for secrets
	scripts/canary --self-test
	scripts/canary
