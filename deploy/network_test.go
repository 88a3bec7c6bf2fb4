package deploy_test

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// labels select what has all of them.
type labels struct {
	MatchLabels map[string]string `yaml:"matchLabels"`
}

func (l *labels) match(of map[string]string) bool {
	for name, value := range l.MatchLabels {
		if of[name] != value {
			return false
		}
	}
	return true
}

// peer is an entry of from: both selectors must match; one that is missing stands for the policy's own namespace, or for all pods.
type peer struct {
	NamespaceSelector *labels `yaml:"namespaceSelector"`
	PodSelector       *labels `yaml:"podSelector"`
}

type rule struct {
	From  []peer
	Ports []struct{ Port string } // by name
}

// policy is what the test reads of a NetworkPolicy. Whatever a policy may have beside it, IP blocks and expressions for instance,
// is refused: the test would take it for less than it is.
type policy struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string
	Metadata   map[string]any
	Spec       struct {
		PodSelector labels   `yaml:"podSelector"`
		PolicyTypes []string `yaml:"policyTypes"`
		Ingress     []rule
	}
}

type deployment struct {
	Spec struct {
		Template struct {
			Metadata struct{ Labels map[string]string }
			Spec     struct {
				Containers []struct {
					Ports []struct {
						Name          string
						ContainerPort int `yaml:"containerPort"`
					}
				}
			}
		}
	}
}

// pod is where a connection comes from.
type pod struct {
	namespace string // by its name, which is its label kubernetes.io/metadata.name
	labels    map[string]string
}

// admits says whether the policy, which stands in the namespace "default", lets a pod connect to the named port.
func (p *policy) admits(from pod, port string) bool {
	for _, rule := range p.Spec.Ingress {
		ports := len(rule.Ports) == 0
		for _, named := range rule.Ports {
			ports = ports || named.Port == port
		}
		peers := len(rule.From) == 0
		for _, peer := range rule.From {
			namespace := from.namespace == "default"
			if peer.NamespaceSelector != nil {
				namespace = peer.NamespaceSelector.match(map[string]string{"kubernetes.io/metadata.name": from.namespace})
			}
			peers = peers || namespace && (peer.PodSelector == nil || peer.PodSelector.match(from.labels))
		}
		if ports && peers {
			return true
		}
	}
	return false
}

// B22, by the rules of the policy: the pods that must reach a port do, and no others.
func TestNetworkPolicy(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("kubernetes.yaml")
	require.NoError(t, err)
	var p policy
	var d deployment
	for _, document := range strings.Split(string(text), "\n---\n") {
		decoder := yaml.NewDecoder(strings.NewReader(document))
		switch {
		case strings.Contains(document, "\nkind: NetworkPolicy\n"):
			decoder.KnownFields(true)
			err = decoder.Decode(&p)
		case strings.Contains(document, "\nkind: Deployment\n"):
			err = decoder.Decode(&d)
		}
		require.False(t, err != nil && !errors.Is(err, io.EOF), "%v", err)
	}
	require.Equal(t, []string{"Ingress"}, p.Spec.PolicyTypes)
	require.NotEmpty(t, p.Spec.PodSelector.MatchLabels)
	require.True(t, p.Spec.PodSelector.match(d.Spec.Template.Metadata.Labels), "the policy is for the pods of the deployment")
	ports := make(map[string]int)
	for _, port := range d.Spec.Template.Spec.Containers[0].Ports {
		ports[port.Name] = port.ContainerPort
	}
	require.Equal(t, map[string]int{"http": 3000, "admin": 3001}, ports, "a policy's port that no container has admits nobody")

	prometheus := map[string]string{"app.kubernetes.io/name": "prometheus"}
	client := map[string]string{"coatcheck/client": "true"}
	for _, c := range []struct {
		name        string
		from        pod
		http, admin bool
	}{
		{"the ingress controller", pod{"NAMESPACE-OF-THE-INGRESS-CONTROLLER", map[string]string{"app.kubernetes.io/name": "ingress-nginx"}}, true, false},
		{"a back end that logs users in", pod{"default", client}, true, false},
		{"Prometheus", pod{"NAMESPACE-OF-PROMETHEUS", prometheus}, false, true},
		{"a pod beside Prometheus", pod{"NAMESPACE-OF-PROMETHEUS", nil}, false, false},
		{"one that calls itself Prometheus", pod{"default", prometheus}, false, false},
		{"a pod beside the back end", pod{"default", map[string]string{"app": "other"}}, false, false},
		{"a pod of the label in another namespace", pod{"other", client}, false, false},
		{"another node", pod{"default", d.Spec.Template.Metadata.Labels}, false, false},
		{"anybody", pod{"other", nil}, false, false},
	} {
		assert.Equal(t, c.http, p.admits(c.from, "http"), "%s to the API", c.name)
		assert.Equal(t, c.admin, p.admits(c.from, "admin"), "%s to the admin listener", c.name)
	}
}
