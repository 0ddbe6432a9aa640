// Package kubernetes holds the manifests of deploy/kubernetes to Kubernetes' own
// types, and builds the overlay of a cluster from them with kustomize.
//
// It is a module of its own, so that these types, which tests alone need, are no
// requirement of lasthop. `make systems` runs it.
package kubernetes

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	"sigs.k8s.io/json"
	"sigs.k8s.io/kustomize/api/krusty"
	kustomize "sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

const manifests = "../../deploy/kubernetes"

// object returns a value of the type that a manifest says it is.
func object(t *testing.T, name string, text []byte) any {
	t.Helper()
	var kind struct{ APIVersion, Kind string }
	if err := yaml.Unmarshal(text, &kind); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	var v any
	switch kind.APIVersion + " " + kind.Kind {
	case "apps/v1 DaemonSet":
		v = &apps.DaemonSet{}
	case "apps/v1 Deployment":
		v = &apps.Deployment{}
	case "v1 ConfigMap":
		v = &core.ConfigMap{}
	case "v1 Namespace":
		v = &core.Namespace{}
	case "kustomize.config.k8s.io/v1beta1 Kustomization",
		"kustomize.config.k8s.io/v1alpha1 Component":
		v = &kustomize.Kustomization{}
	default:
		t.Fatalf("%s: is a %s %s", name, kind.APIVersion, kind.Kind)
	}
	strictly(t, name, text, v)
	return v
}

// strictly decodes a manifest. A key that its type does not have, another case
// of one and a key that is there twice are errors.
func strictly(t *testing.T, name string, text []byte, into any) {
	t.Helper()
	data, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	wrong, err := json.UnmarshalStrict(data, into)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	for _, w := range wrong {
		t.Errorf("%s: %v", name, w)
	}
}

// TestManifests decodes each file.
func TestManifests(t *testing.T) {
	n := 0
	err := filepath.WalkDir(manifests, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "lasthop.yaml" { // lasthop's own
			return err
		}
		text, err := os.ReadFile(name)
		if err == nil {
			n++
			object(t, name, text)
		}
		return err
	})
	if err != nil || n < 5 {
		t.Errorf("%d manifests, %v", n, err)
	}
}

// TestPage decodes the manifests of docs/fleet.md.
func TestPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/fleet.md")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, block := range strings.Split(string(page), "```yaml\n")[1:] {
		text, _, _ := strings.Cut(block, "```")
		if strings.HasPrefix(text, "apiVersion:") {
			n++
			object(t, "docs/fleet.md", []byte(text))
		}
	}
	if n != 2 {
		t.Errorf("the page has %d manifests", n)
	}
}

// TestOverlay builds a cluster's overlay: the container of lasthop gets its image
// and settings, and no more rights than are known.
func TestOverlay(t *testing.T) {
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).
		Run(filesys.MakeFsOnDisk(), "overlay")
	if err != nil {
		t.Fatal(err)
	}
	found, settings := map[string]core.PodSpec{}, map[string]string{}
	for _, r := range built.Resources() {
		text, err := r.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		switch v := object(t, r.GetName(), text).(type) {
		case *apps.DaemonSet:
			found[v.Namespace] = v.Spec.Template.Spec
		case *apps.Deployment:
			found[v.Namespace] = v.Spec.Template.Spec
		case *core.ConfigMap:
			settings[v.Namespace+"/"+v.Name] = v.Data["lasthop.yaml"]
		}
	}
	for namespace, want := range map[string]struct{ gateway string }{
		"lasthop": {"eth1"}, "web": {"net1"},
	} {
		pod, ok := found[namespace]
		if !ok {
			t.Errorf("namespace %s has no pod", namespace)
			continue
		}
		name := lasthop(t, namespace, pod)
		if s := settings[namespace+"/"+name]; !strings.Contains(s, want.gateway) {
			t.Errorf("%s: the settings %s are %q", namespace, name, s)
		}
	}
	if p := found["lasthop"]; !p.HostNetwork || !p.HostPID {
		t.Error("the DaemonSet does not see the node's network and processes")
	}
	if p := found["web"]; p.ShareProcessNamespace == nil || !*p.ShareProcessNamespace ||
		p.HostNetwork || len(p.Containers) != 2 {
		t.Errorf("the sidecar's pod is %+v", p)
	}
}

// lasthop looks at the container and returns the name of its ConfigMap.
func lasthop(t *testing.T, where string, pod core.PodSpec) string {
	t.Helper()
	i := slices.IndexFunc(pod.Containers, func(c core.Container) bool {
		return c.Name == "lasthop"
	})
	if i < 0 {
		t.Fatalf("%s has no container lasthop", where)
	}
	c := pod.Containers[i]
	if c.Image != "registry.example/lasthop:1.0.0" {
		t.Errorf("%s: the image is %s", where, c.Image)
	}
	s := c.SecurityContext
	if !slices.Equal(s.Capabilities.Drop, []core.Capability{"ALL"}) ||
		!slices.Equal(s.Capabilities.Add, []core.Capability{"NET_ADMIN", "SYS_PTRACE"}) ||
		!*s.ReadOnlyRootFilesystem || *s.AllowPrivilegeEscalation || s.Privileged != nil {
		t.Errorf("%s: the rights are %+v", where, s)
	}
	for _, m := range c.VolumeMounts {
		for _, v := range pod.Volumes {
			if m.Name == v.Name && m.MountPath == "/etc/lasthop" && v.ConfigMap != nil {
				return v.ConfigMap.Name
			}
		}
	}
	t.Fatalf("%s: no ConfigMap is mounted on /etc/lasthop", where)
	return ""
}
