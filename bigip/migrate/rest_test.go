package migrate

import (
	"os"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"lasthop/bigip"
	"lasthop/routing"
)

// restHost replaces the BIG-IPs of testdata/rest.
const restHost = `link add eth0 type veth
link add eth1 type veth
link add eth2 type veth
link set eth0 up
link set eth1 up
link set eth2 up
addr add 10.0.0.10/24 dev eth0
addr add 10.0.1.10/24 dev eth1
addr add 2001:db8:1::10/64 dev eth1
addr add 10.0.2.10/24 dev eth2
route add default via 10.0.0.1 dev eth0
`

// TestREST: answers of iControl REST lead to the same report as the bigip.conf
// of the same BIG-IP. Each archive of testdata/rest has one in both forms; the
// answers are written after those of F5's documentation, not made from the
// other form.
func TestREST(t *testing.T) {
	names, err := filepath.Glob("../../testdata/rest/*.txtar")
	if err != nil || len(names) < 10 {
		t.Fatal(len(names), "fixtures:", err)
	}
	in := routing.Inputs{Host: hostOf(t, restHost),
		Policy: routing.Policy{Numbers: routing.DefaultNumbers},
		Listeners: listens(t, "*:80\n10.0.1.100:443\n[2001:db8:1::100]:443\n"+
			"10.0.1.53:53 udp")}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"),
			func(t *testing.T) { testREST(t, name, in) })
	}
}

func testREST(t *testing.T, name string, in routing.Inputs) {
	archive, err := txtar.ParseFile(name)
	if err != nil {
		t.Fatal(err)
	}
	conf, rest := restConfig(t, archive, false), restConfig(t, archive, true)
	if len(conf.Virtuals) < 2 {
		t.Fatal(len(conf.Virtuals), "virtual servers")
	}
	var reports []string
	for _, c := range []bigip.Config{conf, rest} {
		r, err := Selection{}.Join(c, in)
		if err != nil {
			t.Fatal(err)
		}
		reports = append(reports, c.Hostname+"\n"+dump(r))
	}
	if diff := cmp.Diff(origins.ReplaceAllString(reports[0], "FILE"),
		origins.ReplaceAllString(reports[1], "FILE")); diff != "" {
		t.Errorf("-of bigip.conf +of REST\n%s", diff)
	}
	if !strings.Contains(reports[1], ".json: /Common/") {
		t.Error("no origin names a file and an item")
	}
}

// origins are the origins of both forms.
var origins = regexp.MustCompile(`[\w./-]+\.(conf|txt|dat|json)` +
	`(:\d+|: (ltm global-settings )?[\w/.-]+)?`)

// restConfig loads one form of an archive's BIG-IP. A directory of answers has
// what they have.
func restConfig(t *testing.T, archive *txtar.Archive, rest bool) bigip.Config {
	t.Helper()
	dir := t.TempDir()
	var paths []string
	for _, f := range archive.Files {
		if (path.Ext(f.Name) == ".json") != rest {
			continue
		}
		name := filepath.Join(dir, f.Name)
		if err := os.WriteFile(name, f.Data, 0o644); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, name)
	}
	c, err := bigip.Load(paths...)
	if err != nil {
		t.Fatal(err)
	}
	if !rest {
		return c
	}
	if whole, err := bigip.Load(dir); err != nil || len(whole.Virtuals) != len(c.Virtuals) ||
		!reflect.DeepEqual(whole.VLANs, c.VLANs) {
		t.Errorf("the directory has not what its files have: %v\n%s", err,
			cmp.Diff(c.VLANs, whole.VLANs))
	}
	return c
}
