package nginxconf

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"lasthop/internal/procfs"
)

// Master is a running NGINX master process.
type Master struct {
	PID int
	// start time in clock ticks since boot (/proc/PID/stat): with PID it
	// names the process for good
	Started uint64
	UID     int // real user, as the process itself sees it; for Options.UID
	Owner   int // real user as this process sees it
	// "" if it sees the same files as this process, else "/proc/PID/root";
	// for Options.Root
	Root   string
	Exe    string // its program, as it sees it
	Prefix string // what relative names in its configuration are relative to; ends with a slash
	Conf   string // its main file, as it sees it; for Load
	// its pid file unless the configuration has a `pid` directive (see
	// Config.PIDFile)
	PIDFile string

	// Unverified names what could not be read without CAP_SYS_PTRACE: the
	// network namespace, the program, the root. The other fields are then
	// what the command line says. It has a Hint.
	Unverified error
}

// Trusted reports whether the master is root's or this process's user's.
// Another user can forge a master.
func (m Master) Trusted() bool { return trusted(m.Owner) }

// MastersOptions say where to look, and which users' NGINX count.
type MastersOptions struct {
	Proc  procfs.Dir
	NetNS string // path of the network namespace; "" is that of the calling thread
	// every user's masters count, and not only those of root and of this
	// process's user
	Everyone bool
	Programs *Programs // what earlier looks found about programs; may be nil
}

// counts reports whether a user's masters count.
func (o MastersOptions) counts(uid int) bool { return o.Everyone || trusted(uid) }

// trusted reports whether a user may decide how this host routes.
func trusted(uid int) bool { return uid == 0 || uid == os.Geteuid() }

// Stranger is a process that calls itself nginx and whose user does not count.
type Stranger struct{ PID, Owner int }

const (
	masterTitle = "nginx: master process "
	// bounds for what users can create in any number
	maxLooks     = 1000 // of other users' processes, for strangers
	maxStrangers = 10
)

// Masters finds the NGINX masters in a network namespace, in the order of their
// process ids. Any user can give a process the title of a master and a program.
// So it reads the user of a process first, and of other users' processes only
// the kernel's name of some of them. It executes nothing: it reads NGINX's
// built-in paths from the program file. The error is about /proc or the
// namespace as a whole.
func Masters(o MastersOptions) (masters []Master, strangers []Stranger, err error) {
	p, err := o.finder()
	if err != nil {
		return nil, nil, err
	}
	pids, err := o.Proc.Processes()
	if err != nil {
		return nil, nil, procError("list processes", err,
			"mount proc, or name the main file with --nginx-conf")
	}
	var foreign []Stranger
	for _, pid := range pids {
		owner, err := o.Proc.Owner(pid)
		if err != nil {
			continue // it has ended, or may not be seen
		}
		if !o.counts(owner) {
			foreign = append(foreign, Stranger{pid, owner})
		} else if m, ok := p.master(pid, owner); ok {
			masters = append(masters, m)
		}
	}
	p.programs.looked()
	masters = slices.DeleteFunc(masters, func(m Master) bool { return p.newborn(m, masters) })
	return masters, p.strangers(foreign, masters), nil
}

// Elsewhere returns the process ids of NGINX masters in other network
// namespaces than o's, one for each namespace, in their order. It leaves out
// what it may not read.
func Elsewhere(o MastersOptions) (list []int) {
	seen := map[procfs.NS]bool{}
	if ns, err := o.Proc.NetNSAt(o.NetNS); err == nil {
		seen[ns] = true
	}
	pids, _ := o.Proc.Processes()
	for _, pid := range pids {
		if owner, err := o.Proc.Owner(pid); err != nil || !o.counts(owner) {
			continue
		}
		cmdline, err := o.Proc.Cmdline(pid)
		if err != nil || !strings.HasPrefix(cmdline, masterTitle) {
			continue
		}
		if ns, err := o.Proc.NetNS(pid); err == nil && !seen[ns] {
			seen[ns] = true
			list = append(list, pid)
		}
	}
	return list
}

func procError(what string, err error, fix string) *Error {
	e := &Error{What: what, Err: plain(err), Fix: fix}
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		e.File = pe.Path
	}
	return e
}

// finder looks at processes.
type finder struct {
	procfs.Dir
	netns    procfs.NS // to look in
	own      bool      // it is that of the calling thread
	programs *Programs
}

func (o MastersOptions) finder() (finder, error) {
	netns, err := o.Proc.NetNSAt(o.NetNS)
	if err != nil {
		return finder{}, procError("look at network namespace", err,
			"name a namespace of `ip netns`, a path or a process id")
	}
	self, err := o.Proc.NetNSAt("")
	p := finder{o.Proc, netns, err == nil && self == netns, o.Programs}
	if p.programs == nil {
		p.programs = &Programs{}
	}
	return p, nil
}

// here reports whether a process is in the network namespace. unseen is why
// only this is known of it, and neither its program nor its root.
func (p finder) here(pid int) (here bool, unseen error) {
	ns, err := p.NetNS(pid)
	if !errors.Is(err, fs.ErrPermission) {
		return err == nil && ns == p.netns, nil
	}
	shares, failed := p.SharesNet(pid)
	return failed == nil && shares && p.own, err
}

// strangers returns those of other users' processes that the kernel calls
// nginx, without workers.
func (p finder) strangers(foreign []Stranger, masters []Master) (out []Stranger) {
	nginx := map[int]bool{}
	for _, m := range masters {
		nginx[m.PID] = true
	}
	for _, o := range foreign[:min(len(foreign), maxLooks)] {
		name, err := p.Comm(o.PID)
		if err != nil || name != "nginx" {
			continue
		}
		nginx[o.PID] = true
		stat, err := p.Stat(o.PID)
		here, _ := p.here(o.PID)
		if err == nil && here && !nginx[stat.Parent] && len(out) < maxStrangers {
			out = append(out, o)
		}
	}
	return out
}

// newborn reports whether a process is a worker that was forked a moment ago
// and still has its master's title. A new master that the old one has started,
// to replace itself, is its child too, but has workers.
func (p finder) newborn(m Master, masters []Master) bool {
	stat, err := p.Stat(m.PID)
	if err != nil ||
		!slices.ContainsFunc(masters, func(o Master) bool { return o.PID == stat.Parent }) {
		return false
	}
	children, err := p.Read(m.PID, fmt.Sprintf("task/%d/children", m.PID))
	return err == nil && len(bytes.TrimSpace(children)) == 0
}

// master looks at one process; ok is false if it is no master, lives in another
// network namespace, or has just ended.
func (p finder) master(pid, owner int) (m Master, ok bool) {
	cmdline, err := p.Cmdline(pid)
	title, isMaster := strings.CutPrefix(strings.TrimRight(cmdline, "\x00 "), masterTitle)
	if err != nil || !isMaster {
		return Master{}, false
	}
	stat, err := p.Stat(pid)
	if err != nil {
		return Master{}, false
	}
	m = Master{PID: pid, Started: stat.Started, Owner: owner, UID: p.inside(pid, owner)}
	here, unseen := p.here(pid)
	if !here || unseen == nil && p.lent(pid) {
		return Master{}, false
	}
	if unseen != nil {
		m.Unverified = &Error{File: p.Path(pid, "") + "/",
			What: "look at NGINX master " + strconv.Itoa(pid), Err: plain(unseen),
			Fix: "run as root with CAP_SYS_PTRACE, or name the " +
				"main file with --nginx-conf"}
	}
	p.paths(&m, parseArgs(title))
	if m.Unverified == nil {
		if m.Exe == "" {
			return Master{}, false // it is ending: its memory goes before its root
		}
		m.Root = p.root(pid, m.Conf)
	}
	if _, err := os.Stat(m.Root); m.Root != "" && err != nil {
		return Master{}, false // it has ended meanwhile
	}
	return m, true
}

// lent reports whether a process runs a program that gives its owner's rights
// to the user that starts it, as sudo does. Then its user does not tell which
// user chose its arguments. No NGINX is such a program.
func (p finder) lent(pid int) bool {
	program, err := os.Stat(p.Path(pid, "exe"))
	return err == nil && program.Mode()&(fs.ModeSetuid|fs.ModeSetgid) != 0
}

// paths fills in the paths by NGINX's rules: -p relative to its working
// directory, everything else relative to the prefix.
func (p finder) paths(m *Master, a args) {
	program := p.Path(m.PID, "exe")
	m.Exe, _ = os.Readlink(program)
	m.Exe = strings.TrimSuffix(m.Exe, " (deleted)")
	if m.Unverified != nil {
		m.Exe, program = a.program, a.program
	}
	b := p.programs.paths(program)
	m.Prefix = b.prefix
	if a.prefix != "" {
		cwd, _ := os.Readlink(p.Path(m.PID, "cwd"))
		m.Prefix = below(cwd, a.prefix)
	}
	m.Prefix = strings.TrimSuffix(m.Prefix, "/") + "/"
	m.Conf = below(m.Prefix, cmp.Or(a.conf, b.conf))
	m.PIDFile = below(m.Prefix, cmp.Or(a.pid, b.pid))
}

func below(dir, name string) string {
	if path.IsAbs(name) {
		return tidy(name)
	}
	return tidy(dir + "/" + name)
}

// root returns "" if a process has the same files as this one, else its root. A
// service in a sandbox of systemd has a mount namespace of its own, but the
// same files in it.
func (p finder) root(pid int, conf string) string {
	same := func(a, b string) bool {
		x, err1 := os.Stat(a)
		y, err2 := os.Stat(b)
		return err1 == nil && err2 == nil && os.SameFile(x, y)
	}
	root := p.Path(pid, "root")
	if same(root, "/") &&
		(same(p.Path(pid, "ns/mnt"), p.Self("ns/mnt")) || same(root+conf, conf)) {
		return ""
	}
	return root
}

// SeenBy returns the root below which a process sees a file, "" if it is
// lasthop's, and the user that the process sees itself as: Options.Root and
// UID.
func SeenBy(pid int, file string) (root string, uid int) {
	var p finder
	owner, err := p.Owner(pid)
	if err != nil {
		owner = -1 // no process's
	}
	return p.root(pid, file), p.inside(pid, owner)
}

// inside returns what getuid(2) returns inside of the process's user namespace:
// a rootless container's NGINX is root there.
func (p finder) inside(pid, owner int) int {
	maps, _ := p.Read(pid, "uid_map")
	for line := range strings.Lines(string(maps)) {
		var in, out, n int
		if _, err := fmt.Sscan(line, &in, &out, &n); err == nil && out <= owner &&
			owner-out < n {
			return in + owner - out
		}
	}
	return owner
}

// args are the arguments of a master that matter here.
type args struct{ program, conf, prefix, pid string }

var pidDirective = regexp.MustCompile(`(?:^|[;\s])pid\s+([^;\s]+)\s*;`)

// parseArgs reads the title as ngx_get_options reads argv. The title is argv
// joined: letters may be glued (`-qc FILE`), and the value may be too
// (`-cFILE`). The value of -g may hold spaces; it goes on until a `;` at the
// end of a word is followed by another option.
func parseArgs(title string) args {
	words := strings.Fields(title)
	if len(words) == 0 {
		return args{}
	}
	a := args{program: words[0]}
	for i := 1; i < len(words); i++ {
		letters, isOption := strings.CutPrefix(words[i], "-")
		if !isOption {
			continue
		}
		at := strings.IndexAny(letters, "cpgse")
		if at < 0 {
			continue
		}
		value := letters[at+1:]
		if value == "" && i+1 < len(words) {
			i++
			value = words[i]
		}
		switch letters[at] {
		case 'c':
			a.conf = value
		case 'p':
			a.prefix = value
		case 'g':
			text := []string{value}
			for i+1 < len(words) &&
				!(strings.HasSuffix(words[i], ";") && words[i+1][0] == '-') {
				i++
				text = append(text, words[i])
			}
			if m := pidDirective.FindStringSubmatch(
				strings.Join(text, " ")); m != nil {
				a.pid = strings.Trim(m[1], `"'`)
			}
		}
	}
	return a
}
