package lasthop

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
)

// layout is the number of the maps' form. It changes with the kind, the key or
// the value of any map: a new layout gets a new folder and empty maps.
const layout = 1

// Flows is how many TCP connections, and how many of UDP and echo, are kept
// where nothing else is asked for.
const Flows = 1 << 18

var native = binary.NativeEndian

// Place is where maps are pinned, so that connections keep their routers when
// the process that made the maps ends.
type Place struct {
	Root string // a bpffs: "/sys/fs/bpf"
	// of the network namespace; link numbers mean something within it alone
	Namespace uint64
}

// folder is that of one generation of maps.
func (p Place) folder(generation int) string {
	return filepath.Join(p.Root, "lasthop",
		fmt.Sprintf("v%d-%d", layout, p.Namespace), strconv.Itoa(generation))
}

// pinned returns the newest generation of maps that is pinned; 0 if there is
// none, or none that this process may see.
func (p Place) pinned() (newest int) {
	entries, _ := os.ReadDir(filepath.Dir(p.folder(0)))
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err == nil {
			newest = max(newest, n)
		}
	}
	return newest
}

// code identifies the programs.
func code() string { return fmt.Sprintf("%x", sha256.Sum256(_BpfBytes))[:8] }

// tag names programs of this code with maps of a generation.
func tag(generation int) string { return fmt.Sprintf("%s.%d", code(), generation) }

// generationOf reads the generation of a tag; 0 if it is no tag.
func generationOf(tag string) int {
	_, after, _ := strings.Cut(tag, ".")
	n, _ := strconv.Atoi(after)
	return n
}

// Tag says which programs a process that writes would attach: those of this
// code, with the maps that are pinned, or else with new ones. attached are the
// tags that routes and filters have now.
func (p Place) Tag(attached []string) string {
	if n := p.pinned(); n > 0 {
		return tag(n)
	}
	return tag(next(attached))
}

// next is a generation that nothing attached is of.
func next(attached []string) int {
	n := 0
	for _, t := range attached {
		n = max(n, generationOf(t))
	}
	return n + 1
}

// Programs are the programs and their maps, open in this process.
type Programs struct {
	Maps
	progs      bpfPrograms
	generation int
	// why the maps are not pinned: they end with what is attached. Nil if
	// they are.
	Unpinned error
}

// Open opens the maps that are pinned at the place, or makes new ones and pins
// them there. flows is the size of the two large maps: maps of another size are
// not opened. attached are the tags that routes and filters have now. Without
// CAP_BPF and CAP_NET_ADMIN the error is fs.ErrPermission.
func Open(place Place, flows int, attached []string) (*Programs, error) {
	spec, err := loadBpf()
	if err != nil {
		return nil, fmt.Errorf("read the programs: %w", err)
	}
	for _, name := range []string{bpfMapTcp, bpfMapAny} {
		spec.Maps[name].MaxEntries = uint32(flows)
	}
	_ = rlimit.RemoveMemlock() // only before Linux 5.11; if it fails, so does what follows
	p := &Programs{generation: place.pinned()}
	if p.generation > 0 {
		if err := p.load(spec, place.folder(p.generation)); err == nil {
			return p, nil
		} else if errors.Is(err, fs.ErrPermission) {
			return nil, err
		} else {
			p.Unpinned = err // does not fit
		}
	}
	p.generation = max(p.generation+1, next(attached))
	folder := place.folder(p.generation)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		p.Unpinned = err
		return p, p.load(spec, "")
	}
	if err := p.load(spec, folder); err != nil {
		os.Remove(folder)
		p.Unpinned = err
		return p, p.load(spec, "")
	}
	return p, nil
}

// load loads all, with the maps pinned in a folder; "" pins nothing.
func (p *Programs) load(spec *ebpf.CollectionSpec, folder string) error {
	pinning := ebpf.PinByName
	if folder == "" {
		pinning = ebpf.PinNone
	}
	for _, m := range spec.Maps {
		m.Pinning = pinning
	}
	var objects struct {
		bpfMaps
		bpfPrograms
	}
	err := spec.LoadAndAssign(&objects,
		&ebpf.CollectionOptions{Maps: ebpf.MapOptions{PinPath: folder}})
	if err != nil {
		return fmt.Errorf("load the programs: %w", err)
	}
	p.maps, p.progs = objects.bpfMaps, objects.bpfPrograms
	return nil
}

// Close gives everything back but what is attached or pinned.
func (p *Programs) Close() error { return errors.Join(p.maps.Close(), p.progs.Close()) }

// Tag names these programs with these maps: what routes and filters are named.
func (p *Programs) Tag() string { return tag(p.generation) }

// Learn returns the file descriptor of the filter.
func (p *Programs) Learn() int { return p.progs.Learn.FD() }

// Answer returns the file descriptor of the routes' program.
func (p *Programs) Answer() int { return p.progs.Answer.FD() }

// Unpin removes every generation that is pinned at the place but the one given;
// 0 removes all.
func (p Place) Unpin(but int) error {
	var errs []error
	above := filepath.Dir(p.folder(0))
	entries, _ := os.ReadDir(above)
	for _, e := range entries {
		if e.Name() != strconv.Itoa(but) {
			errs = append(errs, os.RemoveAll(filepath.Join(above, e.Name())))
		}
	}
	if but == 0 {
		errs = append(errs, remove(above), remove(filepath.Dir(above)))
	}
	return errors.Join(errs...)
}

// remove removes a folder that may be gone, or may hold what is others'.
func notEmpty(err error) bool { return errors.Is(err, unix.ENOTEMPTY) }

func remove(folder string) error {
	if err := os.Remove(folder); err != nil && !os.IsNotExist(err) && !notEmpty(err) {
		return err
	}
	return nil
}
