package dbsc

// Kept returns the number of clients whose failures are counted.
func (c *Checks) Kept() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.failures)
}
