package nginxconf

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
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
	Owner   int // real user as we see it: any user can give a process the title of a master
	// "" if it sees the files that we see, else "/proc/PID/root"; for
	// Options.Root
	Root   string
	Exe    string // its program, as it sees it
	Prefix string // what relative names in its configuration are relative to; ends with a slash
	Conf   string // its main file, as it sees it; for Load
	// its pid file unless the configuration has a `pid` directive (see
	// Config.PIDFile)
	PIDFile string

	// Unverified says what could not be looked at, without CAP_SYS_PTRACE:
	// the network namespace, the program, the root. The other fields are
	// then what the command line says. It has a Hint.
	Unverified error
}

// MastersOptions say where to look.
type MastersOptions struct {
	Proc  procfs.Dir
	NetNS string // path of the network namespace; "" is that of the calling thread
}

const masterTitle = "nginx: master process "

// Masters finds the NGINX masters in a network namespace, in the order of their
// process ids. It executes nothing: NGINX's built-in paths are read from its
// program file, because any user can give a process this title and a program.
// UID says whose it is. The error is about /proc or the namespace as such.
func Masters(o MastersOptions) ([]Master, error) {
	ours, err := o.Proc.NetNSAt(o.NetNS)
	if err != nil {
		return nil, procError("look at network namespace", err,
			"name a namespace of `ip netns`, a path or a process id")
	}
	pids, err := o.Proc.Processes()
	if err != nil {
		return nil, procError("list processes", err,
			"mount proc, or name the main file with --nginx-conf")
	}
	p := finder{o.Proc, ours}
	var masters []Master
	for _, pid := range pids {
		if m, ok := p.master(pid); ok {
			masters = append(masters, m)
		}
	}
	return slices.DeleteFunc(masters, func(m Master) bool { return p.newborn(m, masters) }), nil
}

// Elsewhere returns the process ids of NGINX masters in other network
// namespaces than o's, one for each, in their order. What may not be looked at
// is left out.
func Elsewhere(o MastersOptions) (list []int) {
	seen := map[procfs.NS]bool{}
	if ours, err := o.Proc.NetNSAt(o.NetNS); err == nil {
		seen[ours] = true
	}
	pids, _ := o.Proc.Processes()
	for _, pid := range pids {
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

// finder looks at processes; netns is the network namespace that it looks in.
type finder struct {
	procfs.Dir
	netns procfs.NS
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

// master looks at one process; ok is false where it is no master, lives in
// another network namespace, or just ended.
func (p finder) master(pid int) (m Master, ok bool) {
	cmdline, err := p.Cmdline(pid)
	title, isMaster := strings.CutPrefix(strings.TrimRight(cmdline, "\x00 "), masterTitle)
	if err != nil || !isMaster {
		return Master{}, false
	}
	stat, err := p.Stat(pid)
	if err != nil {
		return Master{}, false
	}
	m = Master{PID: pid, Started: stat.Started}
	m.Owner, m.UID = p.uids(pid)
	netns, err := p.NetNS(pid)
	switch {
	case errors.Is(err, fs.ErrPermission):
		m.Unverified = &Error{File: p.Path(pid, "") + "/",
			What: "look at NGINX master " + strconv.Itoa(pid), Err: plain(err),
			Fix: "run as root or with CAP_SYS_PTRACE, or name the " +
				"main file with --nginx-conf"}
	case err != nil || netns != p.netns:
		return Master{}, false
	}
	p.paths(&m, parseArgs(title))
	if m.Unverified == nil {
		m.Root = p.root(pid, m.Conf)
	}
	if _, err := os.Stat(m.Root); m.Root != "" && err != nil {
		return Master{}, false // it has ended meanwhile
	}
	return m, true
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
	b := builtin(program)
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

// root is "" where a process has our files, or else its root. A service in a
// sandbox of systemd has a mount namespace of its own, but the same files in
// it.
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

// SeenBy returns the root below which a process sees a file, "" if it is ours,
// and the user that the process itself takes itself for: Options.Root and UID.
func SeenBy(pid int, file string) (root string, uid int) {
	var p finder
	_, uid = p.uids(pid)
	return p.root(pid, file), uid
}

// uids returns the real user as we see it, and what getuid(2) says inside of
// the process's user namespace: a rootless container's NGINX is root there.
func (p finder) uids(pid int) (outside, inside int) {
	status, _ := p.Read(pid, "status")
	_, after, _ := strings.Cut(string(status), "\nUid:\t")
	outside, _ = strconv.Atoi(strings.SplitN(after, "\t", 2)[0])
	maps, _ := p.Read(pid, "uid_map")
	for line := range strings.Lines(string(maps)) {
		var in, out, n int
		if _, err := fmt.Sscan(line, &in, &out, &n); err == nil && out <= outside &&
			outside-out < n {
			return outside, in + outside - out
		}
	}
	return outside, outside
}

// args are the arguments of a master that matter here.
type args struct{ program, conf, prefix, pid string }

var pidDirective = regexp.MustCompile(`(?:^|[;\s])pid\s+([^;\s]+)\s*;`)

// parseArgs reads the title as ngx_get_options read argv, of which it is the
// join: letters may be glued (`-qc FILE`), and the value may be too (`-cFILE`).
// The value of -g may hold spaces; it goes on until a `;` at the end of a word
// is followed by another option.
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
			for i+1 < len(words) &&
				!(strings.HasSuffix(value, ";") && words[i+1][0] == '-') {
				i++
				value += " " + words[i]
			}
			if m := pidDirective.FindStringSubmatch(value); m != nil {
				a.pid = strings.Trim(m[1], `"'`)
			}
		}
	}
	return a
}

// built are the paths that NGINX was configured with.
type built struct{ prefix, conf, pid string }

const configureMark = "configure arguments:"

const maxProgram = 256 << 20

// builtin reads what `nginx -V` would print from the program itself. What it
// does not say is configure's default.
func builtin(program string) built {
	b := built{prefix: "/usr/local/nginx", conf: "conf/nginx.conf", pid: "logs/nginx.pid"}
	f, err := (&tree{root: -1}).open(program, 0)
	if err != nil {
		return b
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return b
	}
	line := configureLine(io.LimitReader(f, maxProgram))
	for _, m := range configureOption.FindAllSubmatch(line, -1) {
		value := strings.Trim(string(m[2]), "'")
		switch string(m[1]) {
		case "prefix":
			b.prefix = value
		case "conf-path":
			b.conf = value
		case "pid-path":
			b.pid = value
		}
	}
	return b
}

// configureLine returns what follows configureMark in a program. It holds only
// a part of the program at a time: any user can run one of any size.
func configureLine(program io.Reader) []byte {
	buf, kept := make([]byte, 256<<10), 0
	for {
		n, err := io.ReadFull(program, buf[kept:])
		text := buf[:kept+n]
		_, line, _ := bytes.Cut(text, []byte(configureMark))
		line, _, whole := bytes.Cut(line, []byte{0})
		if whole || err != nil {
			return line
		}
		kept = copy(buf, text[len(text)/2:])
	}
}

var configureOption = regexp.MustCompile(`\s--(prefix|conf-path|pid-path)=('[^']*'|\S+)`)
