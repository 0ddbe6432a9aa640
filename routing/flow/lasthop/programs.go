package lasthop

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"lasthop/routing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
)

// layout is the number of the maps' form. It changes with the kind, the key or
// the value of any map: a new layout gets a new folder and empty maps.
const layout = 1

// BPFFS is where the kernel's file system for maps is mounted.
const BPFFS = "/sys/fs/bpf"

var native = binary.NativeEndian

// Place is where maps are pinned, so that connections keep their routers when
// the process that made the maps ends.
type Place struct {
	Root string // a bpffs: "/sys/fs/bpf"
	// of the network namespace; link numbers are only valid within it
	Namespace uint64
}

// folder is the folder of one generation of maps.
func (p Place) folder(generation int) string {
	return filepath.Join(p.Root, "lasthop",
		fmt.Sprintf("v%d-%d", layout, p.Namespace), strconv.Itoa(generation))
}

// pinned returns the newest generation of maps that is pinned; 0 if there is
// none, or none that this process may see.
func (p Place) pinned() int { return p.below(math.MaxInt) }

// below returns the newest pinned generation below another one.
func (p Place) below(generation int) (newest int) {
	entries, _ := os.ReadDir(filepath.Dir(p.folder(0)))
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err == nil && n < generation {
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

// Tag returns the tag of the programs that a process that writes would attach:
// those of this code, with the pinned maps if these have that size, or else
// with new maps. attached are the tags that routes and filters have now.
func (p Place) Tag(attached []string, flows int) string {
	n := p.pinned()
	if n > 0 && p.fits(n, flows) {
		return tag(n)
	}
	return tag(p.following(attached))
}

// fits reports whether all maps are pinned and have a size, as far as this
// process may see.
func (p Place) fits(generation, flows int) bool {
	for name := range new(Maps).byName() {
		_, err := os.Lstat(filepath.Join(p.folder(generation), name))
		if errors.Is(err, fs.ErrNotExist) {
			return false
		}
	}
	m, err := ebpf.LoadPinnedMap(filepath.Join(p.folder(generation), bpfMapTcp), nil)
	if err != nil {
		return errors.Is(err, fs.ErrPermission)
	}
	defer m.Close()
	return m.MaxEntries() == uint32(flows)
}

// following returns a generation that no pinned map and no attached program
// has.
func (p Place) following(attached []string) int {
	return max(p.pinned(), generationOf(newest(attached))) + 1
}

// newest returns the tag of the latest generation; "" of none.
func newest(tags []string) (tag string) {
	for _, t := range tags {
		if generationOf(t) > generationOf(tag) {
			tag = t
		}
	}
	return tag
}

// Programs are the programs and their maps, open in this process.
type Programs struct {
	Maps
	progs      bpfPrograms
	generation int
	before     *Maps // the pinned ones, too, of the programs to be replaced
	unknown    bool  // there are such programs, but their maps are not pinned

	// why the maps are new although some are pinned: those could not be
	// opened, or have another size. Nil otherwise.
	Fresh error
	// why the maps are not pinned: they end with what is attached. Nil if
	// they are pinned.
	Unpinned error
}

// Open opens the maps that are pinned at the place, or makes new ones and pins
// them there. flows is the size of the two large maps: it does not open maps of
// another size. There is room for a quarter as many handshakes, 65,536 at most.
// attached are the tags that routes and filters have now. Without CAP_BPF and
// CAP_NET_ADMIN the error is fs.ErrPermission. If the kernel refuses a program
// the error is an *ebpf.VerifierError.
func Open(place Place, flows int, attached []string) (*Programs, error) {
	spec, err := loadBpf()
	if err != nil {
		return nil, fmt.Errorf("read the programs: %w", err)
	}
	for name, size := range map[string]int{bpfMapTcp: flows, bpfMapAny: flows,
		bpfMapSyn: min(flows, routing.DefaultFlows) / 4} {
		spec.Maps[name].MaxEntries = uint32(size)
	}
	_ = rlimit.RemoveMemlock() // only before Linux 5.11; if it fails, so does what follows
	p := &Programs{generation: place.pinned()}
	switch {
	case p.generation == 0:
	case !place.fits(p.generation, flows):
		p.Fresh = errors.New("they are not all there, or of another size")
	default:
		if p.Fresh = p.load(spec, place.folder(p.generation)); p.Fresh == nil {
			p.succeed(place, attached)
			return p, nil
		}
	}
	p.generation = place.following(attached)
	p.succeed(place, attached)
	if p.Unpinned = place.make(p.generation); p.Unpinned == nil {
		p.Unpinned = p.load(spec, place.folder(p.generation))
		if p.Unpinned != nil {
			_ = place.unpin(p.generation) // what was pinned before it failed
		}
	}
	if p.Unpinned != nil {
		if err := p.load(spec, ""); err != nil {
			return nil, errors.Join(err, p.before.Close())
		}
	}
	return p, nil
}

// succeed opens the maps whose flows the new maps take over, if something is
// attached that has other maps.
func (p *Programs) succeed(place Place, attached []string) {
	p.before, _ = place.mapsOf(place.source(attached, p.generation))
	p.unknown = p.before == nil && slices.ContainsFunc(attached, func(tag string) bool {
		return generationOf(tag) != p.generation
	})
}

// source returns the generation that knows the flows, except one: the newest
// attached generation, or the newest pinned one if that is not pinned.
func (p Place) source(attached []string, but int) (n int) {
	for _, tag := range attached {
		g := generationOf(tag)
		if _, err := os.Lstat(p.folder(g)); err == nil && g != but {
			n = max(n, g)
		}
	}
	return cmp.Or(n, p.below(but))
}

// make makes the folder of a generation.
func (p Place) make(generation int) error {
	if err := p.usable(); err != nil {
		return err
	}
	return os.MkdirAll(p.folder(generation), 0o700)
}

// usable returns the reason why maps cannot be pinned at the place; nil if they
// may.
func (p Place) usable() error {
	var stat unix.Statfs_t
	if err := unix.Statfs(p.Root, &stat); err != nil {
		return &os.PathError{Op: "statfs", Path: p.Root, Err: err}
	}
	if stat.Type != unix.BPF_FS_MAGIC {
		return fmt.Errorf("no bpffs is mounted at %s", p.Root)
	}
	return nil
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

// Close releases everything that is not attached or pinned.
func (p *Programs) Close() error {
	return errors.Join(p.maps.Close(), p.progs.Close(), p.before.Close())
}

// Tag returns the tag of these programs with these maps: routes and filters are
// named by it.
func (p *Programs) Tag() string { return tag(p.generation) }

// Learn returns the file descriptor of the filter.
func (p *Programs) Learn() int { return p.progs.Learn.FD() }

// settling is how long a filter learns before routes use maps that began empty.
const settling = 500 * time.Millisecond

// Answer returns the file descriptor of the routes' program. The filters must
// be attached already: they learn every connection from then on.
func (p *Programs) Answer() int {
	if p.before != nil {
		p.take(p.before)
		_ = p.before.Close() // they were only read
		p.before = nil
	}
	if p.unknown {
		time.Sleep(settling)
		p.unknown = false
	}
	return p.progs.Answer.FD()
}

// Attached records that all routes and filters have these programs: no other
// maps need a pin any more.
func (p *Programs) Attached(place Place) error {
	if p.Unpinned != nil {
		return place.Unpin(0)
	}
	return place.Unpin(p.generation)
}

// Unpin removes every pinned generation of the namespace, of any layout, except
// the given one; 0 removes all. Attached programs go on.
func (p Place) Unpin(but int) error {
	var errs []error
	own := filepath.Dir(p.folder(0))
	above := filepath.Dir(own)
	layouts, _ := filepath.Glob(filepath.Join(above, fmt.Sprintf("v*-%d", p.Namespace)))
	for _, folder := range layouts {
		if folder != own {
			errs = append(errs, os.RemoveAll(folder))
		}
	}
	entries, _ := os.ReadDir(own)
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err == nil && n != but {
			errs = append(errs, p.unpin(n))
		}
	}
	return errors.Join(errs...)
}

// unpin removes a generation, and then each folder above it that is empty.
func (p Place) unpin(generation int) error {
	folder := p.folder(generation)
	if err := os.RemoveAll(folder); err != nil {
		return err
	}
	_ = os.Remove(filepath.Dir(folder)) // other generations may be in them
	_ = os.Remove(filepath.Dir(filepath.Dir(folder)))
	return nil
}
