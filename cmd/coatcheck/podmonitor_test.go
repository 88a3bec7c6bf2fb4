package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/coatcheck/coatcheck/server/login"
)

// deploy/podmonitor.yaml selects the pods of deploy/kubernetes.yaml, at their admin port, under the job of the alerts, with a key that is
// a placeholder until it is replaced.
func TestPodMonitor(t *testing.T) {
	t.Parallel()
	text := deployed(t, "podmonitor.yaml")
	type object struct {
		Kind       string
		Metadata   struct{ Name string }
		StringData map[string]string `yaml:"stringData"`
		Spec       struct {
			Selector struct {
				MatchLabels map[string]string `yaml:"matchLabels"`
			}
			JobLabel  string `yaml:"jobLabel"`
			Endpoints []struct {
				Port, Path    string
				Authorization struct {
					Type        string
					Credentials struct{ Name, Key string }
				}
			} `yaml:"podMetricsEndpoints"`
		}
	}
	objects := make(map[string]object)
	for decoder := yaml.NewDecoder(strings.NewReader(text)); ; {
		var o object
		err := decoder.Decode(&o)
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		objects[o.Kind] = o
	}
	monitor := objects["PodMonitor"].Spec
	assert.Equal(t, map[string]string{"app.kubernetes.io/name": "coatcheck"}, monitor.Selector.MatchLabels)
	assert.Contains(t, deployed(t, "kubernetes.yaml"), "    app.kubernetes.io/name: coatcheck\n")
	assert.Contains(t, deployed(t, "prometheus-alerts.yml"), `{job="coatcheck"}`)
	assert.Equal(t, "coatcheck", monitor.Selector.MatchLabels[monitor.JobLabel])
	endpoint := monitor.Endpoints[0]
	assert.Contains(t, deployed(t, "kubernetes.yaml"), "            - name: "+endpoint.Port+"\n              containerPort: 3001\n")
	secret := objects["Secret"]
	assert.Equal(t, secret.Metadata.Name, endpoint.Authorization.Credentials.Name)
	key := secret.StringData[endpoint.Authorization.Credentials.Key]
	file := filepath.Join(t.TempDir(), "keys")
	require.NoError(t, os.WriteFile(file, []byte(key+"\n"), 0o600))
	_, err := login.LoadKeys(file)
	assert.ErrorContains(t, err, "placeholder")
}
