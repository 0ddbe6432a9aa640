package lasthop

import (
	"os"
	"os/exec"
	"testing"
)

// TestFewRights: CAP_BPF and CAP_NET_ADMIN are enough, as the drop-in of the
// unit gives them. Without CAP_PERFMON the verifier takes fewer programs.
func TestFewRights(t *testing.T) {
	const inside = "LASTHOP_TEST_FEW_RIGHTS"
	if os.Getenv(inside) != "" {
		p, err := Open(Place{Root: "/nonexistent"}, 1024, nil)
		if err != nil {
			t.Fatalf("%+v", err)
		}
		p.Close()
		return
	}
	p, err := Open(Place{Root: "/nonexistent"}, 1024, nil)
	if err != nil {
		t.Skipf("needs more rights, to give most of them up: %v", err)
	}
	p.Close()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command("setpriv", "--bounding-set=-all,+cap_39,+net_admin", "--inh-caps=-all",
		self, "-test.run", "^TestFewRights$", "-test.v")
	c.Env = append(os.Environ(), inside+"=1")
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
