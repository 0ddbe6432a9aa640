package lasthop

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// compiler is the clang that has made the objects: another makes other code.
const compiler = "clang version 14.0.6"

// TestGenerated: the objects and their Go files are made from lasthop.c.
func TestGenerated(t *testing.T) {
	clang := "clang-14"
	version, err := exec.Command(clang, "--version").Output()
	if err != nil {
		t.Skipf("needs clang-14: %v", err)
	}
	if !strings.Contains(string(version), compiler) {
		t.Skipf("needs %s, this is %s", compiler, strings.SplitN(string(version), "\n",
			2)[0])
	}
	if _, err := os.Stat("/usr/include/bpf/bpf_helpers.h"); err != nil {
		t.Skipf("needs the headers of libbpf: %v", err)
	}
	folder := t.TempDir()
	c := exec.Command("sh", "generate.sh", folder)
	c.Env = append(os.Environ(), "CLANG="+clang, "STRIP=llvm-strip-14")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("generate: %v\n%s", err, out)
	}
	made, err := filepath.Glob(folder + "/lasthop_bpf*")
	if err != nil || len(made) != 4 {
		t.Fatalf("generated: %v, %v", made, err)
	}
	for _, name := range made {
		base := filepath.Base(name)
		if !bytes.Equal(read(t, name), read(t, base)) {
			t.Errorf("%s is not made from lasthop.c: run go generate", base)
		}
	}
	if lines := bytes.Count(read(t, "lasthop.c"), []byte("\n")); lines > 250 {
		t.Errorf("lasthop.c has %d lines, more than 250", lines)
	}
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
