package doctor

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lasthop/internal/nstest"
)

// system is a root directory with files in it.
func system(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755),
			os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestNetworkdSpares(t *testing.T) {
	const both = "[Network]\nManageForeignRoutingPolicyRules=no\nManageForeignRoutes = off\n"
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  bool
	}{
		{"nothing said", nil, false},
		{"both", map[string]string{"etc/systemd/networkd.conf": both}, true},
		{"both, by the distribution", map[string]string{"usr/lib/systemd/networkd.conf.d/10.conf": both}, true},
		{"rules alone", map[string]string{"etc/systemd/networkd.conf": "[Network]\nManageForeignRoutingPolicyRules=no\n"}, false},
		{"routes alone", map[string]string{"etc/systemd/networkd.conf": "[Network]\nManageForeignRoutes=no\n"}, false},
		{"taken back", map[string]string{"usr/lib/systemd/networkd.conf": both, "etc/systemd/networkd.conf.d/a.conf": "[Network]\nManageForeignRoutes=yes\n"}, false},
		{"commented out", map[string]string{"etc/systemd/networkd.conf": "[Network]\n#ManageForeignRoutingPolicyRules=no\n;ManageForeignRoutes=no\n"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := networkdSpares(system(t, tt.files)); got != tt.want {
				t.Errorf("spares: %t, want %t", got, tt.want)
			}
		})
	}
}

func TestNetworkManagerFindings(t *testing.T) {
	root := system(t, map[string]string{
		"etc/NetworkManager/conf.d/10-tables.conf":                 "[main]\nplugins=keyfile\n[connection-ethernet]\nmatch-device=type:ethernet\nipv6.route-table=200\n",
		"etc/NetworkManager/system-connections/eth0.nmconnection":  "[connection]\nid=eth0\n[ipv4]\nmethod=auto\nroute-table=254\n",
		"etc/NetworkManager/system-connections/eth1.nmconnection":  "[ipv4]\nroute-table=0\nroute1=10.0.0.0/8,10.0.1.1\n[ipv6]\nroute-table=none\n",
		"run/NetworkManager/system-connections/eth2.nmconnection":  "[ipv4]\n# route-table=9\n[proxy]\nroute-table=9\n",
		"usr/lib/NetworkManager/conf.d/20-connectivity-debian.txt": "[connection]\nipv4.route-table=7\n",
	})
	found, unseen := networkManager(root, "NetworkManager?")
	var got []string
	for _, f := range found {
		got = append(got, f.Origin)
	}
	want := []string{"/etc/NetworkManager/conf.d/10-tables.conf:5",
		"/etc/NetworkManager/system-connections/eth0.nmconnection:5"}
	if diff := cmp.Diff(want, got); diff != "" || unseen != nil {
		t.Errorf("unseen %v; -want +got\n%s", unseen, diff)
	}
	if found, _ := networkManager(root, "systemd-networkd?"); len(found) > 0 {
		t.Errorf("NetworkManager does not run, and still: %v", found)
	}
}

// A program in another network namespace does not delete what is in this one,
// nor does one that a user names like it.
func TestSuspectLivesHere(t *testing.T) {
	ns, other := nstest.New(t), nstest.New(t)
	suspects := func(path, want string) {
		t.Helper()
		if got := Suspects("/proc", path); got != want {
			t.Errorf("in %s: %q, want %q", path, got, want)
		}
	}
	startSuspect(t, ns)
	suspects(ns.Path, "mwan3?")
	suspects(other.Path, "")
	startSuspect(t, other, nstest.Nobody(t)...)
	suspects(other.Path, "")
}

// startSuspect starts a program that is called like one of the suspects.
func startSuspect(t *testing.T, ns *nstest.NS, as ...string) {
	t.Helper()
	dir := t.TempDir()
	script := filepath.Join(dir, "mwan3rtmon")
	if err := errors.Join(os.Chmod(filepath.Dir(dir), 0o755), os.WriteFile(script,
		[]byte("#!/bin/sh\necho up\nread _\n"), 0o755)); err != nil {
		t.Fatal(err)
	}
	c := ns.Command(append(as, script)...)
	stdin, err1 := c.StdinPipe()
	stdout, err2 := c.StdoutPipe()
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stdin.Close(); _ = c.Wait() })
	if _, err := stdout.Read(make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
}
