package redistest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/internal/testport"
)

// StartReplicated starts a primary and its replica, and returns when the replica follows.
func StartReplicated(t testing.TB, config ...string) (primary, replica *Server) {
	t.Helper()
	primary = Start(t, config...)
	replica = Start(t, append([]string{fmt.Sprintf("replicaof 127.0.0.1 %d", primary.Port)}, config...)...)
	follows(t, replica)
	return primary, replica
}

func follows(t testing.TB, replica *Server) {
	t.Helper()
	Eventually(t, time.Minute, "the replica to follow", func() bool {
		return strings.Contains(replica.Must("INFO", "replication"), "master_link_status:up")
	})
}

// Sentinel is a primary, its replica, and a Sentinel that watches over them and replaces a dead primary after four seconds,
// because on a busy machine a live one may be silent for more than a second.
type Sentinel struct {
	Primary, Replica, Watch *Server
	// Link is the proxy through which the replica follows the primary. The Sentinel repairs the link after eight seconds.
	Link *Proxy
}

// masterSet is the Sentinel's name for the primary and its replica.
const masterSet = "sessions"

// StartSentinel starts a primary, its replica and a Sentinel.
func StartSentinel(t testing.TB, config ...string) *Sentinel {
	t.Helper()
	primary := Start(t, config...)
	link := BetweenServers(t, primary.Addr())
	replica := Start(t, append([]string{"replicaof " + strings.ReplaceAll(link.Addr(), ":", " ")}, config...)...)
	follows(t, replica)
	watch := start(t, testport.Free(t), []string{
		fmt.Sprintf("sentinel monitor %s 127.0.0.1 %d 1", masterSet, primary.Port),
		"sentinel down-after-milliseconds " + masterSet + " 4000",
		"sentinel failover-timeout " + masterSet + " 5000",
	}, "--sentinel")
	Eventually(t, time.Minute, "the Sentinel to know the replica", func() bool {
		replicas, err := watch.Do("SENTINEL", "replicas", masterSet).ToArray()
		return err == nil && len(replicas) == 1
	})
	return &Sentinel{primary, replica, watch, link}
}

// URL returns the URL by which a client finds the primary.
func (s *Sentinel) URL() string { return s.Watch.URL() + "?master_set=" + masterSet }

// Cluster is a Redis Cluster.
type Cluster struct {
	Primaries []*Server
	Replicas  []*Server // one for each primary, in their order; or none
}

const slots = 16384

// StartCluster starts a Cluster of three primaries, with a replica each if replicas is true. A node that does not answer
// for half a minute counts as dead, unless config has another cluster-node-timeout: on a busy machine a node may be silent
// for seconds, and an unplanned failover would disturb the test.
func StartCluster(t testing.TB, replicas bool, config ...string) *Cluster {
	t.Helper()
	const primaries = 3
	var buses []int
	node := func() *Server {
		bus := testport.Free(t)
		buses = append(buses, bus)
		return Start(t, append([]string{
			"cluster-enabled yes", "cluster-config-file nodes.conf", "cluster-node-timeout 30000", "cluster-replica-validity-factor 0",
			fmt.Sprintf("cluster-port %d", bus),
		}, config...)...)
	}
	c := &Cluster{}
	for i := range primaries {
		s := node()
		s.Must("CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(i*slots/primaries), strconv.Itoa((i+1)*slots/primaries-1))
		s.Must("CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i+1))
		c.Primaries = append(c.Primaries, s)
	}
	if replicas {
		for range primaries {
			c.Replicas = append(c.Replicas, node())
		}
	}
	for i, s := range c.All() {
		c.Primaries[0].Must("CLUSTER", "MEET", "127.0.0.1", strconv.Itoa(s.Port), strconv.Itoa(buses[i]))
	}
	c.waitFor(t, "know all nodes", func(s *Server) bool {
		return strings.Contains(s.Must("CLUSTER", "INFO"), fmt.Sprintf("cluster_known_nodes:%d", len(c.All())))
	})
	for i, s := range c.Replicas {
		s.Must("CLUSTER", "REPLICATE", c.Primaries[i].Must("CLUSTER", "MYID"))
	}
	c.waitFor(t, "be whole", func(s *Server) bool {
		return strings.Contains(s.Must("CLUSTER", "INFO"), "cluster_state:ok")
	})
	for i, s := range c.Replicas {
		follows(t, s)
		c.waitFor(t, "know the replica", func(other *Server) bool {
			return strings.Contains(other.Must("CLUSTER", "NODES"), s.Addr()) &&
				strings.Contains(other.Must("CLUSTER", "NODES"), "slave "+c.Primaries[i].Must("CLUSTER", "MYID"))
		})
	}
	return c
}

// All returns all nodes.
func (c *Cluster) All() []*Server {
	return append(c.Primaries[:len(c.Primaries):len(c.Primaries)], c.Replicas...)
}

// URL returns the URL of the Cluster.
func (c *Cluster) URL() string {
	return c.Primaries[0].URL() + "?addr=" + c.Primaries[1].Addr() + "&addr=" + c.Primaries[2].Addr()
}

func (c *Cluster) waitFor(t testing.TB, what string, f func(*Server) bool) {
	t.Helper()
	for _, s := range c.All() {
		Eventually(t, time.Minute, "the Cluster's nodes to "+what, func() bool { return f(s) })
	}
}

// Slot returns the slot of a key.
func (c *Cluster) Slot(key string) string { return c.Primaries[0].Must("CLUSTER", "KEYSLOT", key) }

// Owner returns the primary that serves a slot.
func (c *Cluster) Owner(t testing.TB, slot string) *Server {
	t.Helper()
	for _, s := range c.Primaries {
		if s.serves(slot) {
			return s
		}
	}
	t.Fatalf("nobody serves slot %s", slot)
	return nil
}

// serves reads CLUSTER NODES: the line of the node itself ends with the slots that it serves.
func (s *Server) serves(slot string) bool {
	s.t.Helper()
	wanted, _ := strconv.Atoi(slot)
	for line := range strings.Lines(s.Must("CLUSTER", "NODES")) {
		if !strings.Contains(line, "myself") {
			continue
		}
		for _, r := range strings.Fields(line)[8:] {
			first, last, isRange := strings.Cut(r, "-")
			if !isRange {
				last = first
			}
			lo, err1 := strconv.Atoi(first)
			hi, err2 := strconv.Atoi(last)
			if err1 == nil && err2 == nil && lo <= wanted && wanted <= hi {
				return true
			}
		}
	}
	return false
}

// Move moves a slot from one node to another as redis-cli does, ten keys at a time, and calls between after each ten.
func (c *Cluster) Move(t testing.TB, slot string, from, to *Server, between func()) {
	t.Helper()
	c.BeginMove(slot, from, to)
	between()
	for {
		keys, err := from.Do("CLUSTER", "GETKEYSINSLOT", slot, "10").AsStrSlice()
		if err != nil {
			t.Fatal(err)
		}
		if len(keys) == 0 {
			break
		}
		c.MoveKeys(from, to, keys...)
		between()
	}
	c.EndMove(t, slot, from, to)
}

// BeginMove is the first step of Move: it marks the slot as migrating on both nodes.
func (c *Cluster) BeginMove(slot string, from, to *Server) {
	to.Must("CLUSTER", "SETSLOT", slot, "IMPORTING", from.Must("CLUSTER", "MYID"))
	from.Must("CLUSTER", "SETSLOT", slot, "MIGRATING", to.Must("CLUSTER", "MYID"))
}

// MoveKeys is the second step: it moves keys from one node to the other. Some keys may have expired in the meantime.
func (c *Cluster) MoveKeys(from, to *Server, keys ...string) {
	from.Must(append([]string{"MIGRATE", "127.0.0.1", strconv.Itoa(to.Port), "", "0", "5000", "KEYS"}, keys...)...)
}

// EndMove is the last step, when all keys have moved. It waits until all nodes agree on which node serves which slots since
// which epoch: a node that takes a slot claims it with the highest epoch that it knows, plus one. When moves follow closely
// on one another, older gossip can carry a higher epoch and make the new owner give up the slot, which no node serves from
// then on.
func (c *Cluster) EndMove(t testing.TB, slot string, from, to *Server) {
	t.Helper()
	for _, s := range append([]*Server{to, from}, c.Primaries...) {
		s.Must("CLUSTER", "SETSLOT", slot, "NODE", to.Must("CLUSTER", "MYID"))
	}
	Eventually(t, time.Minute, "the Cluster's nodes to agree on slots and epochs", func() bool {
		first := c.Primaries[0].claims()
		for _, s := range c.Primaries[1:] {
			if s.claims() != first {
				return false
			}
		}
		return true
	})
}

// claims returns which primary has which epoch and slots, as the node knows it.
func (s *Server) claims() string {
	s.t.Helper()
	var lines []string
	nodes := strings.TrimPrefix(s.Must("CLUSTER", "NODES"), "txt:") // RESP3's prefix of a verbatim string
	for line := range strings.Lines(nodes) {
		if f := strings.Fields(line); strings.Contains(f[2], "master") {
			slots := slices.DeleteFunc(f[8:], func(r string) bool { return strings.HasPrefix(r, "[") })
			lines = append(lines, f[0]+" "+f[6]+" "+strings.Join(slots, ","))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// Isolate cuts a primary off from all other nodes, and makes its replica the primary in its place, while it goes on as a primary
// for its clients: a network that is cut between nodes only looks like this. The Cluster must not require that all slots are
// served. After a minute the nodes may meet again. Servers later than 7.0 tell each other what one of them is to forget; there the
// primary is not cut off, and hears of its heir.
func (c *Cluster) Isolate(t testing.TB, n int) {
	t.Helper()
	lost, heir := c.Primaries[n], c.Replicas[n]
	id := lost.Must("CLUSTER", "MYID")
	alone := strings.Contains(lost.Must("INFO", "server"), "redis_version:7.0.")
	if alone {
		for _, s := range c.All() {
			if s != lost {
				lost.Must("CLUSTER", "FORGET", s.Must("CLUSTER", "MYID"))
			}
		}
	}
	heir.Must("CLUSTER", "FAILOVER", "TAKEOVER")
	for _, s := range c.All() {
		if s == lost {
			continue
		}
		Eventually(t, time.Minute, "the Cluster's nodes to know the new primary", func() bool { return !s.claimed(id) })
		if alone {
			s.Must("CLUSTER", "FORGET", id)
		}
	}
}

// claimed reports whether the node with that ID serves slots, as the node s knows it.
func (s *Server) claimed(id string) bool {
	for line := range strings.Lines(s.claims()) {
		if f := strings.Fields(line); f[0] == id {
			return len(f) > 2
		}
	}
	return false
}
