package perminute

// Len returns the number of keys that are remembered.
func (c *Counts[K]) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.counts)
}
