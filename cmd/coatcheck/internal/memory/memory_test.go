package memory

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestLimit(t *testing.T) {
	for name, tt := range map[string]struct {
		files map[string]string
		want  int64
	}{
		"no control groups": {nil, 0},
		"version 2, in a container": {map[string]string{
			"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "536870912\n",
		}, 512 << 20},
		"version 2, none": {map[string]string{
			"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "max\n", "sys/fs/cgroup/a/memory.max": "max\n",
		}, 0},
		"version 2, of a unit": {map[string]string{
			"proc/self/cgroup": "0::/system.slice/coatcheck.service\n",
			"sys/fs/cgroup/system.slice/coatcheck.service/memory.max": "1000\n", "sys/fs/cgroup/system.slice/memory.max": "max\n",
		}, 1000},
		"version 2, of the slice above": {map[string]string{
			"proc/self/cgroup": "0::/system.slice/coatcheck.service\n",
			"sys/fs/cgroup/system.slice/coatcheck.service/memory.max": "1000\n", "sys/fs/cgroup/system.slice/memory.max": "700\n",
		}, 700},
		"version 2, throttled before": {map[string]string{
			"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "1000\n", "sys/fs/cgroup/memory.high": "800\n",
		}, 800},
		"version 2, the host's path": {map[string]string{
			"proc/self/cgroup": "0::/../../docker/0123\n", "sys/fs/cgroup/memory.max": "1000\n",
		}, 1000},
		"version 1": {map[string]string{
			"proc/self/cgroup": "12:cpu,cpuacct:/docker/1\n5:memory:/docker/1\n1:name=systemd:/docker/1\n",
			"sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes": "2000\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
		}, 2000},
		"version 1, none": {map[string]string{
			"proc/self/cgroup": "5:memory:/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
		}, 0},
		"both": {map[string]string{
			"proc/self/cgroup": "5:memory:/\n0::/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "3000\n",
		}, 3000},
		"nonsense": {map[string]string{
			"proc/self/cgroup": "x\n0::/\n::\n", "sys/fs/cgroup/memory.max": "much\n", "sys/fs/cgroup/memory.high": "-1\n",
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for file, text := range tt.files {
				path := filepath.Join(root, file)
				require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
				require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
			}
			assert.Equal(t, tt.want, limitBelow(root))
		})
	}
}

func TestShare(t *testing.T) {
	assert.Zero(t, share(0, 100))
	assert.EqualValues(t, 900, share(1000, 0))
	assert.EqualValues(t, 700, share(1000, 200))
	assert.EqualValues(t, 500, share(1000, 900), "never less than half")
}
