package process

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// CPUs says where the parts of a measurement run, by the kernel's numbers. Where SMT is on, two of these CPUs may be threads of one core.
type CPUs struct {
	Server []int `json:"server"`
	Load   []int `json:"load"`
	Redis  int   `json:"redis"`
}

// ShareCPUs gives n CPUs to the server, n others to the load, and the next one to Redis. Where there is no other one Redis
// shares the last of the load's, so that the server's stay its own.
func ShareCPUs(n int) (CPUs, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return CPUs{}, err
	}
	var allowed []int
	for cpu := range len(set) * 64 {
		if set.IsSet(cpu) {
			allowed = append(allowed, cpu)
		}
	}
	return share(allowed, n)
}

func share(allowed []int, n int) (CPUs, error) {
	if n < 1 || len(allowed) < 2*n {
		return CPUs{}, fmt.Errorf("the server on %d cores and the load on as many others need %d cores, and this machine gives %d", n, 2*n, len(allowed))
	}
	return CPUs{Server: allowed[:n], Load: allowed[n : 2*n], Redis: allowed[min(2*n, len(allowed)-1)]}, nil
}
