package redisstore_test

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/redisstore"
	"github.com/coatcheck/coatcheck/redisstore/redistest"
)

// A primary that lost the other nodes still answers its clients. A session that was ended at the replica that took its place
// is served for five seconds at most, from the cache or from the old primary (CASES A12).
func TestPrimaryThatLostItsCluster(t *testing.T) {
	t.Parallel()
	inTime(t, func() (problem string) {
		c := redistest.StartCluster(t, true, "cluster-require-full-coverage no")
		s := opened(t, redisstore.Options{URL: c.URL(), Timeout: time.Second})
		var rec *coatcheck.Record
		patient := opened(t, redisstore.Options{URL: c.URL()})
		for i := 0; rec == nil || c.Owner(t, c.Slot(s.RecordKey(rec.Key))) != c.Primaries[0]; i++ {
			rec = add(t, patient, fmt.Sprintf("user %d", i))
		}
		redistest.Eventually(t, time.Minute, "the session to be replicated", func() bool {
			return c.Replicas[0].Must("DBSIZE") == c.Primaries[0].Must("DBSIZE")
		})
		warm(t, s, rec)
		c.Isolate(t, 0)
		if err := load(s, rec); err != nil {
			return err.Error()
		}

		others := opened(t, redisstore.Options{URL: c.Primaries[1].URL()})
		late := lateness()
		require.NoError(t, end(others, rec))
		began := time.Now()
		redistest.Eventually(t, time.Minute, "the session not to be served", func() bool { return load(s, rec) != nil })
		took := time.Since(began)
		t.Logf("it was served for %v", took)
		if took > 5*time.Second+2*late() {
			return "it was served for " + took.String()
		}
		redistest.Eventually(t, time.Minute, "the tombstone, and logins", func() bool {
			return assert.ObjectsAreEqual(coatcheck.ErrEnded, load(s, rec)) && begin(s, session(t, rec.UserID())) == nil
		})
		return ""
	})
}

// A node that comes back with a new ID at its old address, as a pod without a lasting nodes.conf does, is used again.
func TestNodeThatWasReset(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, true)
	s := opened(t, redisstore.Options{URL: c.URL(), CacheTTL: -1})
	node, heir := c.Primaries[0], c.Replicas[0]
	var rec *coatcheck.Record
	for i := 0; rec == nil || c.Owner(t, c.Slot(s.RecordKey(rec.Key))) != node; i++ {
		rec = add(t, s, fmt.Sprintf("user %d", i))
	}
	takeOver := func(server, from *redistest.Server) {
		redistest.Eventually(t, time.Minute, "the node to follow", func() bool {
			return strings.Contains(server.Must("INFO", "replication"), "master_link_status:up") && server.Must("DBSIZE") == from.Must("DBSIZE")
		})
		server.Must("CLUSTER", "FAILOVER", "TAKEOVER") // needs nobody's vote
		redistest.Eventually(t, time.Minute, "the node to take over", func() bool {
			return strings.Contains(server.Must("INFO", "replication"), "role:master") &&
				strings.Contains(from.Must("INFO", "replication"), "role:slave")
		})
	}
	takeOver(heir, node)
	id := node.Must("CLUSTER", "MYID")
	node.Must("CLUSTER", "RESET", "HARD")
	for _, other := range c.All() {
		if other != node {
			other.Must("CLUSTER", "FORGET", id)
		}
	}
	s.Look(context.Background())

	setting, err := node.Do("CONFIG", "GET", "cluster-port").AsStrMap()
	require.NoError(t, err)
	heir.Must("CLUSTER", "MEET", "127.0.0.1", node.PortText(), setting["cluster-port"])
	redistest.Eventually(t, time.Minute, "the node to know its primary", func() bool {
		return node.Do("CLUSTER", "REPLICATE", heir.Must("CLUSTER", "MYID")).Error() == nil
	})
	for _, other := range c.All() {
		redistest.Eventually(t, time.Minute, "all nodes to know the replica", func() bool {
			nodes := other.Must("CLUSTER", "NODES")
			return strings.Contains(nodes, fmt.Sprintf("%s %s@", node.Must("CLUSTER", "MYID"), node.Addr())) &&
				strings.Count(nodes, "slave "+heir.Must("CLUSTER", "MYID")) == 1
		})
	}
	takeOver(node, heir)
	redistest.Eventually(t, time.Minute, "sessions to be read from it", func() bool { return load(s, rec) == nil })
	require.NotEqual(t, id, node.Must("CLUSTER", "MYID"))
}

// While the nodes agree, the cache stays as it is.
func TestTopologyThatAgreesKeepsTheCache(t *testing.T) {
	t.Parallel()
	s := opened(t, redisstore.Options{URL: undisturbedCluster(t).URL()})
	warm(t, s, add(t, s, "ada"))
	inTime(t, func() (problem string) { // a node may be slower than a look
		s.Look(context.Background())
		flushes := s.Stats().Flushes
		for range 3 {
			s.Look(context.Background())
		}
		if s.Stats().Flushes != flushes {
			return "the cache was emptied"
		}
		return ""
	})
}

// Where most nodes do not answer, another one may have taken over the session's slot: nothing is served from the cache then.
func TestTopologyThatNobodyKnowsEmptiesTheCache(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, false)
	s := opened(t, redisstore.Options{URL: c.URL()})
	var rec *coatcheck.Record
	for i := 0; rec == nil || c.Owner(t, c.Slot(s.RecordKey(rec.Key))) != c.Primaries[0]; i++ {
		rec = add(t, s, fmt.Sprintf("user %d", i))
	}
	warm(t, s, rec)
	for _, server := range c.Primaries[1:] {
		server.Signal(syscall.SIGSTOP)
		t.Cleanup(func() { server.Signal(syscall.SIGCONT) })
	}
	s.Look(context.Background())
	assert.False(t, s.Cached(rec.Key, rec.ID, time.Now()))
}

// slotOf agrees with Redis.
func TestSlots(t *testing.T) {
	t.Parallel()
	c := undisturbedCluster(t)
	for _, tag := range []string{"00000000", "00000001", "deadbeef", "ffffffff"} {
		assert.Equal(t, c.Slot("x:{"+tag+"}:y"), fmt.Sprint(redisstore.SlotOf(tag)))
	}
}

// An answer to CLUSTER SLOTS is read as rueidis reads it, which connects to the nodes.
func TestReadView(t *testing.T) {
	type list = []any
	node := func(host any, id string) list { return list{host, 6379, id, list{"ip", "10.0.0.9"}} }
	for name, tt := range map[string]struct {
		answer any
		claims []string
		nodes  map[string]string
	}{
		"addresses": {
			list{list{8192, 16383, node("10.0.0.2", "B")}, list{0, 8191, node("10.0.0.1", "A"), node("10.0.0.3", "a")}},
			[]string{"0-8191 A 10.0.0.1:6379", "8192-16383 B 10.0.0.2:6379"},
			map[string]string{"A": "10.0.0.1:6379", "B": "10.0.0.2:6379", "a": "10.0.0.3:6379"},
		},
		"IPv6":                       {list{list{0, 1, node("::1", "A")}}, []string{"0-1 A [::1]:6379"}, map[string]string{"A": "[::1]:6379"}},
		"it does not know its own":   {list{list{0, 1, node("", "A")}}, []string{"0-1 A asked:6379"}, map[string]string{"A": "asked:6379"}},
		"unknown-endpoint":           {list{list{0, 1, node(nil, "A")}}, []string{"0-1 A asked:6379"}, map[string]string{"A": "asked:6379"}},
		"a hostname that is not set": {list{list{0, 1, node("?", "A")}}, []string{"0-1 A "}, map[string]string{"A": ""}},
		"nobody":                     {list{}, nil, map[string]string{}},
	} {
		t.Run(name, func(t *testing.T) {
			claims, nodes, err := redisstore.ReadView("asked:1", tt.answer)
			require.NoError(t, err)
			assert.Equal(t, tt.claims, claims)
			assert.Equal(t, tt.nodes, nodes)
		})
	}
	for name, answer := range map[string]any{
		"no list": "x", "no range": list{1}, "no node": list{list{0, 1}}, "no number": list{list{0, "x", node("a", "A")}},
		"a node without an ID": list{list{0, 1, list{"10.0.0.1", 6379}}}, "no port": list{list{0, 1, list{"10.0.0.1", "x", "A"}}},
	} {
		_, _, err := redisstore.ReadView("asked:1", answer)
		assert.ErrorContains(t, err, "CLUSTER SLOTS", name)
	}
}

// What the nodes say is judged by who says it.
func TestTopologyUpdate(t *testing.T) {
	whole := [2]string{"ABC", "abc"} // primaries A, B and C, replicas a, b and c
	for name, tt := range map[string]struct {
		views  [][2]string
		agreed bool
		gone   []string
	}{
		"all agree":                            {[][2]string{whole, whole, whole}, true, nil},
		"a primary does not answer":            {[][2]string{whole, whole}, true, nil},
		"one of three answers":                 {[][2]string{whole}, false, nil},
		"nobody answers":                       {nil, false, nil},
		"nobody serves anything":               {[][2]string{{}, {}, {}}, false, nil},
		"a slot has moved, as one knows":       {[][2]string{whole, whole, {"ABB", "abc"}}, false, nil},
		"a slot moves to a new node":           {[][2]string{whole, whole, {"ABD", "abc"}}, false, nil},
		"a primary is alone":                   {[][2]string{whole, {"aBC", "bc"}, {"aBC", "bc"}}, false, []string{"A"}},
		"a primary is alone and not heard":     {[][2]string{{"aBC", "bc"}, {"aBC", "bc"}}, true, []string{"A"}},
		"it is back as a replica":              {[][2]string{{"aBC", "Abc"}, {"aBC", "Abc"}, {"aBC", "Abc"}}, true, nil},
		"a primary has given its slots away":   {[][2]string{{"BBC", "Abc"}, {"BBC", "Abc"}, {"BBC", "Abc"}}, true, nil},
		"they are split evenly":                {[][2]string{whole, whole, {"aBC", "bc"}, {"aBC", "bc"}}, false, nil},
		"two views of which no one knows more": {[][2]string{whole, {"aBC", "bc"}}, false, nil},
		"a replica was reset":                  {[][2]string{{"aBC", "Zbc"}, {"aBC", "Zbc"}, {"aBC", "Zbc"}}, true, nil},
		"a primary was reset":                  {[][2]string{{"ZBC", "abc"}, {"ZBC", "abc"}, {"ZBC", "abc"}}, true, nil},
		"one that does not answer was reset":   {[][2]string{{"ZBC", "abc"}, {"ZBC", "abc"}}, true, nil},
	} {
		t.Run(name, func(t *testing.T) {
			topology := redisstore.Topology{Addr: map[string]string{"Z": "A"}} // A, when it has lost its ID
			agreed, gone := topology.Update(whole, whole, whole)
			require.True(t, agreed)
			require.Empty(t, gone)
			agreed, gone = topology.Update(tt.views...)
			assert.Equal(t, tt.agreed, agreed)
			assert.Equal(t, tt.gone, gone)
		})
	}
	var topology redisstore.Topology
	alone := [2]string{"aBC", "bc"}
	topology.Update(whole, whole, whole)
	_, gone := topology.Update(whole, alone, alone)
	require.Equal(t, []string{"A"}, gone)
	_, gone = topology.Update(whole)
	assert.Equal(t, []string{"A"}, gone, "while no node knows, a node that had gone stays gone")
	_, gone = topology.Update([2]string{"aBC", "Abc"}, [2]string{"aBC", "Abc"}, [2]string{"aBC", "Abc"})
	assert.Empty(t, gone)
	topology.Addr = map[string]string{"B": "-"}
	topology.Update(whole, whole, whole)
	_, gone = topology.Update([2]string{"AbC", "ac"}, [2]string{"AbC", "ac"})
	assert.Equal(t, []string{"B"}, gone, "an address that was known is kept while the Cluster tells none")
}

// Ping takes no longer than any other call where no node of a Cluster answers: not a timeout for each node that it tries.
func TestPingOfASilentCluster(t *testing.T) {
	t.Parallel()
	const timeout = time.Second
	c := redistest.StartCluster(t, false)
	s := opened(t, redisstore.Options{URL: c.URL(), Timeout: timeout})
	for _, server := range c.Primaries {
		server.Signal(syscall.SIGSTOP)
		t.Cleanup(func() { server.Signal(syscall.SIGCONT) })
	}
	inTime(t, func() (problem string) {
		late, began := lateness(), time.Now()
		err := s.Ping(context.Background())
		took, noise := time.Since(began), late()
		require.ErrorIs(t, err, coatcheck.ErrUnavailable)
		if took > timeout+100*time.Millisecond+2*noise {
			return "it took " + took.String()
		}
		return ""
	})
}

// While one primary of a Cluster answers, Ping always says that sessions can be read.
func TestPingOfAClusterWithoutAPrimary(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, false, "cluster-require-full-coverage no")
	s := opened(t, redisstore.Options{URL: c.URL(), Timeout: 3 * time.Second})
	c.Owner(t, c.Slot(fmt.Sprintf("{%x}", coatcheck.TagOf("")))).Kill() // the key that is read where there is no Cluster is there
	parallel(200, 200, func(int) { assert.NoError(t, s.Ping(context.Background())) })
}

// A read that Ping cuts off because another primary has answered is no failure of Redis.
func TestPingCountsNoErrors(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, false)
	s := opened(t, redisstore.Options{URL: c.URL()})
	for range 500 {
		require.NoError(t, s.Ping(context.Background()))
	}
	assert.Zero(t, s.Stats().Errors)
}

// A probe gives up on a check long before a primary that hangs is given up on.
func TestPingDoesNotWaitForAPrimaryThatHangs(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, false, "cluster-require-full-coverage no")
	const timeout = 3 * time.Second
	s := opened(t, redisstore.Options{URL: c.URL(), Timeout: timeout})
	c.Primaries[1].Signal(syscall.SIGSTOP)
	t.Cleanup(func() { c.Primaries[1].Signal(syscall.SIGCONT) })
	for range 5 { // the machine may be busy; one that waits for all takes the whole timeout each time
		began := time.Now()
		require.NoError(t, s.Ping(context.Background()))
		if time.Since(began) < timeout {
			return
		}
	}
	t.Error("each check took the timeout of the primary that hangs")
}
