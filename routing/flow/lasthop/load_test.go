package lasthop

import (
	"errors"
	"io/fs"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
)

// The verifier of Linux 5.10 looks at a million instructions at most. The
// number that the kernel here looks at shows the distance to that.
const complexity = 100_000

// TestComplexity: the kernel takes the programs, and with little work.
func TestComplexity(t *testing.T) {
	_ = rlimit.RemoveMemlock()
	spec, err := loadBpf()
	if err != nil {
		t.Fatal(err)
	}
	var objects bpfObjects
	err = spec.LoadAndAssign(&objects, &ebpf.CollectionOptions{
		Programs: ebpf.ProgramOptions{LogLevel: ebpf.LogLevelStats}})
	var refused *ebpf.VerifierError
	if errors.As(err, &refused) {
		t.Fatalf("%+v", refused)
	}
	if errors.Is(err, fs.ErrPermission) {
		t.Skipf("programs cannot be loaded here: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer objects.Close()
	for name, p := range map[string]*ebpf.Program{"learn": objects.Learn,
		"answer": objects.Answer} {
		info, err := p.Info()
		if err != nil {
			t.Fatal(err)
		}
		n, ok := info.VerifiedInstructions()
		t.Logf("%s: %d instructions looked at", name, n)
		if ok && n > complexity {
			t.Errorf("%s: the verifier looks at %d instructions, more than %d", name,
				n, complexity)
		}
	}
}
