package nginxconf

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// inRoot opens a name below a root with the kernel's openat2, and without.
func inRoot(t *testing.T, root int, name string, flags int) (want, got string) {
	t.Helper()
	tell := func(fd int, err error) string {
		if err != nil {
			return err.Error()
		}
		defer unix.Close(fd)
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%d:%d %o", st.Dev, st.Ino, st.Mode)
	}
	how := unix.OpenHow{Flags: uint64(flags),
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := unix.Openat2(root, name, &how)
	for range 100 {
		if err != unix.EAGAIN { // another program has renamed or mounted something
			break
		}
		fd, err = unix.Openat2(root, name, &how)
	}
	if err == unix.ENOSYS || err == unix.EPERM {
		t.Skip("this kernel, or a sandbox, has no openat2 to compare with")
	}
	want = tell(fd, err)
	return want, tell(openInRoot(root, name, flags))
}

// randomPath is a name of one to six words, of which few exist.
func randomPath(r *rand.Rand) string {
	var words []string
	for range 1 + r.IntN(6) {
		words = append(words, []string{"a", "b", "c", "d", "..", ".", "", "gone"}[r.IntN(8)])
	}
	return strings.Repeat("/", r.IntN(2)) + strings.Join(words, "/")
}

// randomTree makes directories, files and links in an empty directory.
func randomTree(r *rand.Rand, dir string) {
	for range 40 { // some are there already
		name := filepath.Join(dir, filepath.Join("/", randomPath(r)))
		_ = os.MkdirAll(filepath.Dir(name), 0o755)
		switch r.IntN(3) {
		case 0:
			_ = os.Mkdir(name, 0o755)
		case 1:
			_ = os.WriteFile(name, nil, 0o644)
		default:
			_ = os.Symlink(randomPath(r), name)
		}
	}
}

// TestOpenInRoot: it opens what openat2 opens, and fails where it fails, in
// random trees of directories, files and links, and nothing outside of the
// root.
func TestOpenInRoot(t *testing.T) {
	const seed, trees, names = 7, 30, 300
	r := rand.New(rand.NewPCG(seed, 0))
	opened := 0
	for n := range trees {
		dir := filepath.Join(t.TempDir(), "root")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		randomTree(r, dir)
		root, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		for range names {
			name := randomPath(r) + strings.Repeat("/a", r.IntN(2))
			if name == "" {
				continue
			}
			for _, flags := range []int{unix.O_PATH, unix.O_RDONLY | unix.O_NONBLOCK} {
				want, got := inRoot(t, root, name, flags|unix.O_CLOEXEC)
				if want != got {
					t.Errorf("tree %d, %q: got %s, want %s", n, name, got, want)
				}
				if strings.Contains(got, ":") {
					opened++
				}
			}
		}
		_ = unix.Close(root)
	}
	if opened < trees*names/10 {
		t.Errorf("only %d of %d were opened: this shows little", opened, 2*trees*names)
	}
}
