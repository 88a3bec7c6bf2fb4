package dbsc

// Kept returns the number of clients whose failures are counted.
func (c *Checks) Kept() int { return c.failures.Len() }
