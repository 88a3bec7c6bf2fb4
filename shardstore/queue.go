package shardstore

import "container/heap"

// queue holds things in the order in which they go, so that the janitor touches what is over and not what lives. It is a
// binary heap in which each item knows its place: taking one out or moving it costs log n, and nothing stale stays behind.
type queue[T item] struct{ items heapOf[T] }

// item is what embeds a deadline.
type item interface{ due() *deadline }

// deadline is when something goes, and where it stands in its queue.
type deadline struct {
	at  int64 // Unix milliseconds
	pos int
}

func (d *deadline) due() *deadline { return d }

func (q *queue[T]) add(it T) { heap.Push(&q.items, it) }

func (q *queue[T]) remove(it T) { heap.Remove(&q.items, it.due().pos) }

func (q *queue[T]) move(it T, at int64) {
	it.due().at = at
	heap.Fix(&q.items, it.due().pos)
}

// over returns an item whose time has come, and whether there is one. It stays in the queue.
func (q *queue[T]) over(now int64) (it T, ok bool) {
	if len(q.items) == 0 || now < q.items[0].due().at {
		return it, false
	}
	return q.items[0], true
}

// heapOf is the heap.Interface below a queue.
type heapOf[T item] []T

func (h heapOf[T]) Len() int           { return len(h) }
func (h heapOf[T]) Less(i, j int) bool { return h[i].due().at < h[j].due().at }

func (h heapOf[T]) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].due().pos = i
	h[j].due().pos = j
}

// Push is for package heap.
func (h *heapOf[T]) Push(x any) {
	it := x.(T) // queue.add takes nothing else
	it.due().pos = len(*h)
	*h = append(*h, it)
}

// Pop is for package heap.
func (h *heapOf[T]) Pop() any {
	last := len(*h) - 1
	it := (*h)[last]
	var none T
	(*h)[last] = none // the slice must not keep it from the garbage collector
	*h = (*h)[:last]
	return it
}
