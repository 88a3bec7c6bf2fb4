// Package chart_test lints and renders the Helm chart beside it with Helm's own library, and reads what comes out as the types of
// Kubernetes, whose fields have no others beside them. It is a module of its own because it compiles Kubernetes' client.
package chart_test

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	"sigs.k8s.io/yaml"
)

const chartDir = "../coatcheck"

// shapes are what people install: nodes on Redis, or one with a volume.
var shapes = map[string]string{
	"redis": `
image: {repository: registry.example.com/coatcheck}
settings: {login: trusted, trusted-proxies: 10.0.0.0/8}
secrets:
  admin-key-file: {name: coatcheck, key: admin-keys}
  login-key-file: {name: coatcheck, key: login-keys}
  redis-password-file: {name: coatcheck, key: redis-password}
serviceMonitor: {enabled: true, labels: {release: prometheus}, authorization: {name: coatcheck-metrics, key: key}}
`,
	"volume": `
image: {repository: registry.example.com/coatcheck, tag: v1.2.3}
store: memory
replicas: 1
volume: {size: 2Gi, storageClassName: fast}
settings: {login: users, max-sessions: 1000000}
secrets:
  admin-key-file: {name: coatcheck, key: admin-keys}
  users-file: {name: coatcheck, key: users}
`,
	"webhook": `
image: {repository: registry.example.com/coatcheck}
imagePullSecrets: [{name: registry}]
settings: {login: webhook}
secrets:
  admin-key-file: {name: coatcheck, key: admin-keys}
extraEnv:
  - {name: COATCHECK_WEBHOOK_URL, valueFrom: {secretKeyRef: {name: coatcheck, key: webhook-url}}}
envFrom: [{configMapRef: {name: tracing}}]
`,
}

// objects are the rendered ones by kind and name, as YAML.
type objects map[string]string

// render returns what the release "auth" consists of, or why the values are refused.
func render(t *testing.T, values string) (objects, error) {
	t.Helper()
	chart, err := loader.Load(chartDir)
	require.NoError(t, err)
	given, err := chartutil.ReadValues([]byte(values))
	require.NoError(t, err)
	all, err := chartutil.ToRenderValues(chart, given, chartutil.ReleaseOptions{Name: "auth", Namespace: "default", IsInstall: true}, nil)
	if err != nil {
		return nil, err
	}
	files, err := engine.Render(chart, all)
	if err != nil {
		return nil, err
	}
	return parse(t, slices.Collect(maps.Values(files))...), nil
}

// parse takes YAML files apart into their objects.
func parse(t *testing.T, files ...string) objects {
	t.Helper()
	found := make(objects)
	for _, file := range files {
		for _, document := range strings.Split("\n"+file, "\n---\n") {
			var head struct {
				Kind     string
				Metadata struct{ Name string }
			}
			require.NoError(t, yaml.Unmarshal([]byte(document), &head), "%s", document)
			if head.Kind != "" {
				found[head.Kind+"/"+head.Metadata.Name] = document
			}
		}
	}
	return found
}

// decode reads the object as its type, and refuses a field that the type does not have.
func decode[T any](t *testing.T, from objects, name string) (object T) {
	t.Helper()
	require.Contains(t, from, name)
	require.NoError(t, yaml.UnmarshalStrict([]byte(from[name]), &object), "%s", from[name])
	return object
}

// plain is deploy/kubernetes.yaml, which says the same without a chart.
func plain(t *testing.T) objects {
	t.Helper()
	text, err := os.ReadFile("../../kubernetes.yaml")
	require.NoError(t, err)
	return parse(t, string(text))
}

func TestLint(t *testing.T) {
	for name, values := range shapes {
		t.Run(name, func(t *testing.T) {
			given, err := chartutil.ReadValues([]byte(values))
			require.NoError(t, err)
			for _, message := range lint.AllWithKubeVersion(chartDir, given, "default", &chartutil.KubeVersion{Version: "v1.30.0", Major: "1", Minor: "30"}).Messages {
				assert.Equal(t, support.InfoSev, message.Severity, "%s", message)
			}
		})
	}
}

// Nodes on Redis: what kubernetes.yaml has, under the names of a release.
func TestRedis(t *testing.T) {
	got, err := render(t, shapes["redis"])
	require.NoError(t, err)
	names := slices.Sorted(maps.Keys(got))
	assert.Equal(t, []string{
		"ConfigMap/auth-coatcheck", "Deployment/auth-coatcheck", "NetworkPolicy/auth-coatcheck", "PodDisruptionBudget/auth-coatcheck",
		"Service/auth-coatcheck", "Service/auth-coatcheck-admin", "ServiceMonitor/auth-coatcheck",
	}, names)
	deployment := decode[apps.Deployment](t, got, "Deployment/auth-coatcheck")
	want := decode[apps.Deployment](t, plain(t), "Deployment/coatcheck")
	assert.Equal(t, want.Spec.Replicas, deployment.Spec.Replicas)
	assert.Equal(t, want.Spec.Strategy, deployment.Spec.Strategy)
	assertPod(t, &deployment.Spec.Template, deployment.Spec.Selector.MatchLabels)
	assertSettings(t, got, &deployment.Spec.Template, "trusted")

	pods := deployment.Spec.Template.Labels
	budget := decode[policy.PodDisruptionBudget](t, got, "PodDisruptionBudget/auth-coatcheck")
	assert.Subset(t, pods, budget.Spec.Selector.MatchLabels)
	for _, name := range []string{"auth-coatcheck", "auth-coatcheck-admin"} {
		assert.Subset(t, pods, decode[core.Service](t, got, "Service/"+name).Spec.Selector)
	}
	fence := decode[networking.NetworkPolicy](t, got, "NetworkPolicy/auth-coatcheck")
	assert.Subset(t, pods, fence.Spec.PodSelector.MatchLabels)
	allowed := decode[networking.NetworkPolicy](t, plain(t), "NetworkPolicy/coatcheck").Spec
	allowed.Ingress[0].From[0].NamespaceSelector.MatchLabels["kubernetes.io/metadata.name"] = "ingress-nginx"
	allowed.Ingress[1].From[0].NamespaceSelector.MatchLabels["kubernetes.io/metadata.name"] = "monitoring"
	assert.Equal(t, allowed.Ingress, fence.Spec.Ingress)
	assert.Equal(t, allowed.PolicyTypes, fence.Spec.PolicyTypes)

	// The operator's types are not at hand: these are the fields of its ServiceMonitor that are used, and no others.
	monitor := decode[struct {
		APIVersion string         `json:"apiVersion"`
		Kind       string         `json:"kind"`
		Metadata   map[string]any `json:"metadata"`
		Spec       struct {
			Selector struct {
				MatchLabels map[string]string `json:"matchLabels"`
			} `json:"selector"`
			JobLabel  string `json:"jobLabel"`
			Endpoints []struct {
				Port, Path    string
				Authorization struct {
					Type        string
					Credentials core.SecretKeySelector
				}
			} `json:"endpoints"`
		} `json:"spec"`
	}](t, got, "ServiceMonitor/auth-coatcheck")
	admin := decode[core.Service](t, got, "Service/auth-coatcheck-admin")
	assert.Subset(t, admin.Labels, monitor.Spec.Selector.MatchLabels)
	assert.NotSubset(t, decode[core.Service](t, got, "Service/auth-coatcheck").Labels, monitor.Spec.Selector.MatchLabels)
	assert.Equal(t, "coatcheck", admin.Labels[monitor.Spec.JobLabel], "the job of the alerts")
	assert.Equal(t, admin.Spec.Ports[0].Name, monitor.Spec.Endpoints[0].Port)
	assert.Equal(t, "coatcheck-metrics", monitor.Spec.Endpoints[0].Authorization.Credentials.Name)
}

// One node, whose sessions are on a volume.
func TestVolume(t *testing.T) {
	got, err := render(t, shapes["volume"])
	require.NoError(t, err)
	set := decode[apps.StatefulSet](t, got, "StatefulSet/auth-coatcheck")
	assert.NotContains(t, got, "Deployment/auth-coatcheck")
	assert.NotContains(t, got, "PodDisruptionBudget/auth-coatcheck", "of one replica it would keep a node from being emptied")
	assert.NotContains(t, got, "ServiceMonitor/auth-coatcheck")
	assert.Equal(t, int32(1), *set.Spec.Replicas)
	assert.Contains(t, got, "Service/"+set.Spec.ServiceName)
	claim := set.Spec.VolumeClaimTemplates[0]
	size := claim.Spec.Resources.Requests[core.ResourceStorage]
	assert.Equal(t, "2Gi", size.String())
	assert.Equal(t, "fast", *claim.Spec.StorageClassName)
	assert.Contains(t, set.Spec.Template.Spec.Containers[0].VolumeMounts, core.VolumeMount{Name: claim.Name, MountPath: "/data"})
	assertPod(t, &set.Spec.Template, set.Spec.Selector.MatchLabels)
	assertSettings(t, got, &set.Spec.Template, "users")
	assert.Equal(t, "registry.example.com/coatcheck:v1.2.3", set.Spec.Template.Spec.Containers[0].Image)
}

// A secret that no setting reads from a file comes by the environment, beside the chart's own variables; and the image out of a registry
// that asks for a password.
func TestEnvironment(t *testing.T) {
	got, err := render(t, shapes["webhook"])
	require.NoError(t, err)
	pod := decode[apps.Deployment](t, got, "Deployment/auth-coatcheck").Spec.Template
	assert.Equal(t, []core.LocalObjectReference{{Name: "registry"}}, pod.Spec.ImagePullSecrets)
	container := pod.Spec.Containers[0]
	own := decode[apps.Deployment](t, plain(t), "Deployment/coatcheck").Spec.Template.Spec.Containers[0].Env
	secret := core.SecretKeySelector{LocalObjectReference: core.LocalObjectReference{Name: "coatcheck"}, Key: "webhook-url"}
	url := core.EnvVar{Name: "COATCHECK_WEBHOOK_URL", ValueFrom: &core.EnvVarSource{SecretKeyRef: &secret}}
	assert.Equal(t, append(own, url), container.Env)
	require.Len(t, container.EnvFrom, 1)
	assert.Equal(t, "tracing", container.EnvFrom[0].ConfigMapRef.Name)
	assertSettings(t, got, &pod, "webhook", "COATCHECK_WEBHOOK_URL=https://hunter2@example.com/login")
}

// assertPod holds a pod to that of kubernetes.yaml.
func assertPod(t *testing.T, pod *core.PodTemplateSpec, selector map[string]string) {
	t.Helper()
	want := decode[apps.Deployment](t, plain(t), "Deployment/coatcheck").Spec.Template.Spec
	got := pod.Spec
	assert.Subset(t, pod.Labels, selector)
	assert.Equal(t, want.SecurityContext, got.SecurityContext)
	assert.Equal(t, want.AutomountServiceAccountToken, got.AutomountServiceAccountToken)
	assert.Equal(t, want.EnableServiceLinks, got.EnableServiceLinks)
	assert.Equal(t, want.TerminationGracePeriodSeconds, got.TerminationGracePeriodSeconds)
	require.Len(t, got.Containers, 1)
	expected, container := want.Containers[0], got.Containers[0]
	assert.Equal(t, expected.LivenessProbe, container.LivenessProbe)
	assert.Equal(t, expected.ReadinessProbe, container.ReadinessProbe)
	assert.Equal(t, expected.Lifecycle, container.Lifecycle)
	assert.Equal(t, expected.SecurityContext, container.SecurityContext)
	assert.Equal(t, expected.Env, container.Env)
	assert.Equal(t, expected.Ports, container.Ports)
	assert.Equal(t, expected.Args, container.Args)
	assert.Equal(t, expected.VolumeMounts[0], container.VolumeMounts[0])
	assert.True(t, expected.Resources.Limits.Memory().Equal(*container.Resources.Limits.Memory()))
}

// assertSettings has the program read the settings, in a folder that holds what the pod would see below /etc/coatcheck, and these variables.
func assertSettings(t *testing.T, from objects, pod *core.PodTemplateSpec, login string, environment ...string) {
	t.Helper()
	dir := t.TempDir()
	text := decode[core.ConfigMap](t, from, "ConfigMap/auth-coatcheck").Data["coatcheck.toml"]
	text = strings.NewReplacer("/etc/coatcheck/", dir+"/", `"/data"`, `"`+dir+`/data"`).Replace(text)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "coatcheck.toml"), []byte(text), 0o600))
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "secrets"), 0o700))
	for _, source := range pod.Spec.Volumes[0].Projected.Sources {
		if source.Secret != nil {
			content := "0123456789abcdef0123456789abcdef-" + source.Secret.Items[0].Path + "\n"
			if source.Secret.Items[0].Path == "secrets/users-file" {
				content = "ada:$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$RG9uJ3QgdHJ1c3QgdGhpcyBoYXNoIGF0IGFsbCEhISE\n"
			}
			require.NoError(t, os.WriteFile(filepath.Join(dir, source.Secret.Items[0].Path), []byte(content), 0o600))
		}
	}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), "go", "run", "./cmd/coatcheck", "doctor")
	cmd.Dir = "../../.."
	cmd.Env = append(os.Environ(), "COATCHECK_CONFIG="+dir+"/coatcheck.toml", "COATCHECK_LISTEN=127.0.0.1:3000", "COATCHECK_ADMIN_LISTEN=127.0.0.1:1")
	cmd.Env = append(cmd.Env, environment...)
	out, _ := cmd.CombinedOutput() // ends with 1: no Redis, no server
	assert.Regexp(t, `ok       login +mode `+login, string(out))
	assert.NotContains(t, string(out), "mistakes")
	assert.Regexp(t, `\d+ checks, `, string(out), "%s", text)
}

// The schema refuses much of what would not start, would not be safe, or is somebody's mistake. No message is one of a template's.
func TestRefused(t *testing.T) {
	const (
		image   = "image: {repository: a}\n"
		open    = "settings: {login: open, allow-open-login: true}\n"
		secrets = "secrets: {admin-key-file: {name: a, key: b}}\n"
		oidc    = image + "settings: {login: oidc, oidc-issuer: https://a, oidc-client-id: b, oidc-external-url: https://c}\n"
	)
	_, err := render(t, image+open+secrets)
	require.NoError(t, err)
	for name, c := range map[string]struct{ values, message string }{
		"no image":                      {open + secrets, "repository"},
		"no login mode":                 {image + secrets, "login"},
		"a login mode that is none":     {image + secrets + "settings: {login: everybody}\n", "login"},
		"open login, not confirmed":     {image + secrets + "settings: {login: open}\n", "allow-open-login"},
		"trusted without keys":          {image + secrets + "settings: {login: trusted}\n", "login-key-file"},
		"keys, and not trusted":         {image + open + "secrets: {admin-key-file: {name: a, key: b}, login-key-file: {name: a, key: b}}\n", "secrets"},
		"users without a file":          {image + secrets + "settings: {login: users}\n", "users-file"},
		"a webhook without a URL":       {image + secrets + "settings: {login: webhook}\n", "webhook-url"},
		"a provider without an address": {image + secrets + "settings: {login: oidc}\n", "oidc-issuer"},
		"a provider without state keys": {oidc + secrets, "oidc-state-key-file"},
		"no admin key":                  {image + open, "admin-key-file"},
		"a secret by value":             {image + open + "secrets: {admin-key-file: hunter2}\n", "admin-key-file"},
		"a secret that is no file":      {image + open + "secrets: {admin-key-file: {name: a, key: b}, store: {name: a, key: b}}\n", "store"},
		"a file in the settings":        {image + secrets + "settings: {login: users, users-file: /x}\n", "users-file"},
		"a setting of the chart's":      {image + secrets + "settings: {login: open, listen: ':80'}\n", "listen"},
		"a setting that is none":        {image + secrets + "settings: {login: open, redis-password: hunter2}\n", "redis-password"},
		"a variable of the chart's":     {image + open + secrets + "extraEnv: [{name: COATCHECK_LISTEN, value: ':80'}]\n", "extraEnv"},
		"a limit that Redis has not":    {image + secrets + "settings: {login: open, allow-open-login: true, max-sessions: 1}\n", "max-sessions"},
		"a Redis password for memory":   {shapes["volume"] + "  redis-password-file: {name: a, key: b}\n", "secrets"},
		"two replicas of one memory":    {strings.Replace(shapes["volume"], "replicas: 1", "replicas: 2", 1), "replicas"},
		"a monitor without a key":       {shapes["volume"] + "serviceMonitor: {enabled: true}\n", "serviceMonitor"},
		"a policy without a namespace":  {shapes["volume"] + "networkPolicy: {ingressNamespace: null}\n", "ingressNamespace"},
		"no policy object":              {shapes["redis"] + "networkPolicy: null\n", "networkPolicy"},
		"no monitor object":             {shapes["volume"] + "serviceMonitor: null\n", "serviceMonitor"},
		"no volume":                     {strings.Replace(shapes["volume"], "volume: {size: 2Gi, storageClassName: fast}", "volume: null", 1), "volume"},
		"a value that is none":          {shapes["volume"] + "replica: 1\n", "replica"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := render(t, c.values)
			require.ErrorContains(t, err, "values don't meet the specifications of the schema")
			assert.ErrorContains(t, err, c.message)
		})
	}
}

func TestStores(t *testing.T) {
	for store, good := range map[string]bool{
		"redis://redis:6379": true,
		"rediss://coatcheck@redis:6379/1?tls_ca=/etc/ssl/ca.pem":    true,
		"redis://a:26379?addr=b:26379&addr=c:26379&master_set=main": true,
		"redis://coatcheck:opensesame@redis:6379":                   false,
		"redis://redis:6379?password=opensesame":                    false,
		"redis://redis:6379?addr=b:6379&password=opensesame":        false,
		"redis+sentinel://redis:26379":                              false,
		"valkey://redis:6379":                                       false,
		"memories":                                                  false,
	} {
		t.Run(store, func(t *testing.T) {
			_, err := render(t, shapes["redis"]+"store: "+store+"\n")
			if good {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, "store")
			}
		})
	}
}

// The schema has the names of all settings that docs/configuration.md lists, but for those that the chart sets or that fit no pod.
func TestNames(t *testing.T) {
	page, err := os.ReadFile("../../../docs/configuration.md")
	require.NoError(t, err)
	var settings, files []string
	for _, m := range regexp.MustCompile("(?m)^\\| `--([a-z-]+)( file)?").FindAllStringSubmatch(string(page), -1) {
		switch {
		case slices.Contains([]string{"dev", "config", "listen", "admin-listen", "store", "data-dir", "tls-cert", "tls-key"}, m[1]):
		case m[2] == "":
			settings = append(settings, m[1])
		default:
			files = append(files, m[1])
		}
	}
	var schema struct {
		Properties map[string]struct{ PropertyNames struct{ Enum []string } }
	}
	text, err := os.ReadFile(chartDir + "/values.schema.json")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &schema))
	assert.Equal(t, settings, schema.Properties["settings"].PropertyNames.Enum)
	assert.Equal(t, files, schema.Properties["secrets"].PropertyNames.Enum)
}
