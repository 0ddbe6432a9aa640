package main_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"lasthop/internal/nstest"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// verifyFiles are those of a BIG-IP in the place of the street's router: on r1
// it holds two addresses of the host.
const verifyFiles = `net vlan /Common/v1 { tag 1 }
net self /Common/self1 { address 10.7.1.1/24 vlan /Common/v1 }
ltm virtual /Common/a { destination /Common/10.7.1.100:80 ip-protocol tcp }
ltm virtual /Common/b { destination /Common/10.7.1.101:80 ip-protocol tcp }
ltm virtual /Common/c { destination /Common/2001:db8:1::100.80 ip-protocol tcp }
ltm virtual /Common/d { destination /Common/2001:db8:1::101.80 ip-protocol tcp }
`

// verification is what the test takes of `migrate --verify -o json`.
type verification struct {
	Addresses []struct {
		Address, State string
		Others         []struct {
			MAC   string
			Names []string
		}
		Came []struct {
			Class       string
			Connections int
		}
	}
	Findings []struct{ Code, Subject, Hint string }
}

// verifying is a host to which four addresses have moved.
type verifying struct {
	*nstest.Street
	t             *testing.T
	lasthop, conf string
	files         string
}

func (v verifying) command(args ...string) *exec.Cmd {
	return exec.Command(v.lasthop, append([]string{"migrate", "--verify", "--netns",
		v.Host.Path, "--config", "", "-c", v.conf, "--gateway", "eth1=10.7.1.1",
		"--gateway", "eth1=2001:db8:1::1", v.files}, args...)...)
}

// run wants an exit status, and a document of the schema. It returns the
// states, and what was found.
func (v verifying) run(exit int, args ...string) (got verification) {
	v.t.Helper()
	out, err := v.command(append(args, "-o", "json")...).Output()
	var code *exec.ExitError
	if errors.As(err, &code); exit == 0 && err != nil || exit != 0 && code.ExitCode() != exit {
		v.t.Fatalf("%v: %v\n%s", args, err, out)
	}
	schema, err := jsonschema.NewCompiler().Compile("../../docs/schema/verify.json")
	if err != nil {
		v.t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(out)))
	if err := errors.Join(err, schema.Validate(doc), json.Unmarshal(out, &got)); err != nil {
		v.t.Fatalf("%v\n%s", err, out)
	}
	return got
}

func (v verification) states() (out []string) {
	for _, a := range v.Addresses {
		out = append(out, strings.TrimSpace(a.Address+" "+a.State))
	}
	return out
}

// TestVerify: a BIG-IP that still answers for an address of each family is
// found, and what it is known as; then it is free. Packets tell which of the
// addresses clients ask.
func TestVerify(t *testing.T) {
	t.Parallel()
	v := verifying{Street: nstest.NewStreet(t), t: t,
		files: filepath.Join(t.TempDir(), "bigip.conf")}
	v.lasthop, v.conf = built(t, "*:80; listen [::]:80")
	if err := os.WriteFile(v.files, []byte(verifyFiles), 0o644); err != nil {
		t.Fatal(err)
	}
	held := []string{"10.7.1.100/32 dev r1", "2001:db8:1::100/128 dev r1 nodad"}
	v.Lines(v.Host, "addr add 10.7.1.101/32 dev eth1",
		"addr add 2001:db8:1::100/128 dev eth1 nodad",
		"addr add 2001:db8:1::101/128 dev eth1 nodad")
	v.Lines(v.Router, "addr add "+held[0], "addr add "+held[1])
	got := v.run(2)
	if d := cmp.Diff([]string{"10.7.1.100 duplicate", "10.7.1.101 here",
		"2001:db8:1::100 duplicate", "2001:db8:1::101 here"}, got.states()); d != "" {
		t.Fatalf("-want +got\n%s", d)
	}
	_, mac, _ := strings.Cut(v.Router.IP("-o link show dev r1"), "link/ether ")
	for _, i := range []int{0, 2} {
		if x := got.Addresses[i].Others; len(x) != 1 || x[0].MAC != mac[:17] ||
			!slices.Contains(x[0].Names, "BIG-IP, self IP 10.7.1.1 /Common/self1") {
			t.Errorf("%s: %+v, want %s", got.Addresses[i].Address, x, mac[:17])
		}
	}
	if n := len(got.Findings); n != 2 {
		t.Errorf("%d findings: %v", n, got.Findings)
	}
	v.Lines(v.Router, "addr del "+held[0], "addr del "+strings.TrimSuffix(held[1], " nodad"))
	v.wantSeen()
	if out, err := v.command("--host", "x").CombinedOutput(); err == nil ||
		!strings.Contains(string(out), "--host does not take --netns") {
		t.Errorf("a captured host has no neighbours: %v\n%s", err, out)
	}
	weak := v.command()
	weak.Args = append([]string{"setpriv", "--bounding-set", "-net_raw"}, weak.Args...)
	weak.Path, _ = exec.LookPath("setpriv")
	if out, err := weak.CombinedOutput(); err == nil ||
		!strings.Contains(string(out), "error: ask neighbours: ") ||
		!strings.Contains(string(out), "hint: run as root, or with CAP_NET_RAW") {
		t.Errorf("without a right: %v\n%s", err, out)
	}
}

// wantSeen wants nothing to be wrong any more, and requests to one address.
func (v verifying) wantSeen() {
	v.t.Helper()
	v.Serve(v.Host, "10.7.1.100:80")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		steadily(5, time.Second, "198.51.100.2")(ctx, v.Street)
	}()
	got := v.run(0, "--observe", "2s")
	cancel()
	<-done
	for i, a := range got.Addresses {
		if a.State != "here" || (len(a.Came) > 0) != (i == 0) {
			v.t.Errorf("%+v", a)
		}
	}
	if x := got.Addresses[0].Came; len(x) != 1 || x[0].Class != "off-link" ||
		x[0].Connections == 0 {
		v.t.Errorf("who asked: %+v", x)
	}
	if len(got.Findings) != 1 || got.Findings[0].Code != "no-requests" {
		v.t.Errorf("findings: %v", got.Findings)
	}
}
