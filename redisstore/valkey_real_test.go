//go:build real

package redisstore_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// onOtherServers are the tests that have to hold on whatever server there is: the contract, and what faults do. TestTLS is not
// among them, because the wheel's Valkey is built without TLS.
var onOtherServers = []string{
	"TestConformance", "TestConformanceOnCluster", "TestConformanceUnderSentinel", "TestACLUser", "TestLostAnswers", "TestNobodyNotices",
	"TestOutages", "TestSilentCut", "TestReconnectBeginsEmpty", "TestFailover", "TestSlotMigration", "TestHalfMovedSlot", "TestFullMemory",
	"TestWritesRefused", "TestOneForbiddenCommand", "TestPrimaryBehindAStableAddress", "TestPrimaryThatLostItsCluster", "TestEvictionIsRefused", "TestEndUserWithoutAnIndex",
	"TestOwnWritesAreSeen", "TestReplicasAreWaitedFor", "TestInspectNamesWhatTheUserLacks",
}

// The store works on Valkey as it does on Redis.
func TestOnValkey(t *testing.T) {
	server, err := filepath.Abs("../bin/valkey-server")
	require.NoError(t, err)
	_, err = os.Stat(server)
	require.NoError(t, err, "scripts/install-valkey puts it there")
	cmd := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-run", "^("+strings.Join(onOtherServers, "|")+")$", ".")
	cmd.Env = append(os.Environ(), "REDISTEST_SERVER="+server)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
}
