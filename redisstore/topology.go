package redisstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/rueidis"

	"github.com/coatcheck/coatcheck"
)

// topology is what the nodes of a Cluster say about which of them serves which slots.
//
// What a primary has invalidated leaves the cache, so a cached record is current while its node is the slot's primary. A
// primary that the others do not reach keeps its connections to clients, while its replica takes over the slots and the
// sessions. It invalidates nothing then, and if it is alone it does not find out. So all nodes are asked, and where they do not
// agree the cache is emptied.
type topology struct {
	owners  []claim           // by the majority's view; nil outside a Cluster
	primary map[string]string // the addresses of the nodes that were primaries once, by ID
	gone    []string          // those of them that the majority does not know any more
}

// claim says that a node is the primary of a range of slots.
type claim struct {
	first, last int
	id, addr    string // the address is empty if the Cluster tells none
}

// view is what one node says.
type view struct {
	claims []claim           // in the order of the slots
	nodes  map[string]string // the addresses of all nodes in it, by ID
}

// look asks the nodes of a Cluster for their views, and acts on them.
func (s *Store) look(ctx context.Context) {
	if s.client.Mode() != rueidis.ClientModeCluster {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, lookWithin)
	defer cancel()
	views := askAll(ctx, s.client.Nodes())
	if ctx.Err() != nil && len(views) == 0 {
		return // closed, or nobody can be reached: the connections are found dead
	}
	agreed, gone := s.watcher.topology.update(views)
	s.dialer.forbid(gone)
	if s.watcher.topology.owners != nil {
		tags := slices.Collect(maps.Values(s.watcher.topology.tags()))
		s.watcher.primaries.Store(&tags)
	}
	if !agreed && s.cache != nil {
		s.cache.flush()
	}
}

func askAll(ctx context.Context, nodes map[string]rueidis.Client) (views []view) {
	var mu sync.Mutex
	var asking sync.WaitGroup
	for addr, node := range nodes {
		asking.Go(func() {
			v, err := ask(ctx, addr, node)
			if err != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			views = append(views, v)
		})
	}
	asking.Wait()
	return views
}

var errSlots = errors.New("an answer to CLUSTER SLOTS that cannot be read")

// ask asks one node for its view.
func ask(ctx context.Context, addr string, node rueidis.Client) (view, error) {
	msg, err := node.Do(ctx, node.B().Arbitrary("CLUSTER", "SLOTS").Build().Pin()).ToMessage()
	if err != nil {
		return view{}, err
	}
	return readView(addr, msg)
}

// readView reads an answer to CLUSTER SLOTS: ranges, each with its primary and its replicas.
func readView(from string, msg rueidis.RedisMessage) (view, error) {
	v := view{nodes: map[string]string{}}
	ranges, err := msg.ToArray()
	if err != nil {
		return view{}, errors.Join(errSlots, err)
	}
	for _, r := range ranges {
		parts, err := r.ToArray()
		if err != nil || len(parts) < 3 {
			return view{}, errors.Join(errSlots, err)
		}
		first, err1 := parts[0].AsInt64()
		last, err2 := parts[1].AsInt64()
		if err := errors.Join(err1, err2); err != nil {
			return view{}, errors.Join(errSlots, err)
		}
		for i, part := range parts[2:] {
			id, addr, err := readNode(from, part)
			if err != nil {
				return view{}, errors.Join(errSlots, err)
			}
			v.nodes[id] = addr
			if i == 0 {
				v.claims = append(v.claims, claim{int(first), int(last), id, addr})
			}
		}
	}
	slices.SortFunc(v.claims, func(a, b claim) int { return a.first - b.first })
	return v, nil
}

// readNode reads a node's host, port and ID as rueidis does: a host that is empty or nil is the one that was asked, and one that is
// "?", which an operator has to announce, is none.
func readNode(from string, msg rueidis.RedisMessage) (id, addr string, err error) {
	node, err := msg.ToArray()
	switch {
	case err != nil:
		return "", "", err
	case len(node) < 3:
		return "", "", errors.New("a node without an ID")
	}
	host, err := node[0].ToString()
	if err != nil && !rueidis.IsRedisNil(err) {
		return "", "", err
	}
	port, err1 := node[1].AsInt64()
	id, err2 := node[2].ToString()
	switch host {
	case "":
		host, _, _ = net.SplitHostPort(from)
	case "?":
		return id, "", errors.Join(err1, err2)
	}
	return id, net.JoinHostPort(host, strconv.FormatInt(port, 10)), errors.Join(err1, err2)
}

// text is equal for views that agree.
func (v view) text() string {
	var b strings.Builder
	for _, c := range v.claims {
		fmt.Fprintf(&b, "%d-%d %s,", c.first, c.last, c.id)
	}
	return b.String()
}

// update takes the views in, and reports whether cached records may be believed: all who answered agree, and they are more
// than half as many as there are primaries. It returns the addresses of nodes that were primaries once and are not in the
// majority's view any more, neither as primaries nor as replicas that work, unless another node has the address now.
func (t *topology) update(views []view) (agreed bool, gone []string) {
	votes := map[string]int{}
	var best view
	for _, v := range views {
		votes[v.text()]++
		if votes[v.text()] > votes[best.text()] {
			best = v
		}
	}
	won := votes[best.text()]
	primaries := map[string]bool{}
	for _, c := range best.claims {
		primaries[c.id] = true
	}
	if len(best.claims) == 0 || 2*won <= len(primaries) || 2*won <= len(views) {
		return false, t.gone // no node knows
	}
	if t.primary == nil {
		t.primary = map[string]string{}
	}
	for _, c := range best.claims {
		if c.addr != "" {
			t.primary[c.id] = c.addr
		}
	}
	t.owners, t.gone = best.claims, nil
	present := slices.Collect(maps.Values(best.nodes))
	for id, addr := range t.primary {
		_, known := best.nodes[id]
		switch {
		case known:
		case slices.Contains(present, addr): // the node has lost its file nodes.conf, or was reset: it is the same one with a new ID
			delete(t.primary, id)
		default:
			t.gone = append(t.gone, addr)
		}
	}
	return won == len(views), t.gone
}

// tags returns a tag of a slot of each primary, by the primary's ID.
func (t *topology) tags() map[string]coatcheck.Tag {
	if t.owners == nil {
		return map[string]coatcheck.Tag{"": onlyTag}
	}
	left := map[string]bool{}
	for _, c := range t.owners {
		left[c.id] = true
	}
	tags := map[string]coatcheck.Tag{}
	for n := uint32(0); n < 1<<14 && len(left) > 0; n++ { // a primary of very few slots may be left out
		tag := coatcheck.Tag(binary.BigEndian.AppendUint32(nil, n))
		slot := slotOf(fmt.Sprintf("%08x", n))
		for _, c := range t.owners {
			if c.first <= slot && slot <= c.last && left[c.id] {
				delete(left, c.id)
				tags[c.id] = tag
			}
		}
	}
	return tags
}

// allSlots is how many slots a Cluster has.
const allSlots = 16384

// slotOf returns the Cluster slot of a hash tag: CRC-16 (XMODEM), as the Cluster's specification has it.
func slotOf(tag string) int {
	var crc uint16
	for _, b := range []byte(tag) {
		crc ^= uint16(b) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return int(crc % allSlots)
}
