package survey

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"lasthop/internal/hint"
	"lasthop/report"
	"lasthop/routing"
	"lasthop/routing/host"

	"golang.org/x/sys/unix"
)

// A process of its own proves a plan, in a network namespace of its own. Both
// end with the answer. The kernel lets any user have such a namespace below a
// user namespace, unless the system forbids it; then root can do it without
// one.

const (
	// ProveCommand is the hidden command that runs ProveHere.
	ProveCommand = "prove-in-fresh-namespace"
	proveTimeout = time.Minute // a host with 100,000 routes takes a few seconds
)

// proved is the answer of the process.
type proved struct {
	Proof   routing.Proof
	Error   string
	Refused bool // it may not make links there
}

// errRefused means that the system refuses a namespace to work in.
var errRefused = errors.New("lasthop cannot make a throw-away network namespace here")

// Prove lets the kernel prove the decision. If the kernel cannot be asked, both
// the proof and the error give the reason.
func (s *Survey) Prove() (*report.Proof, error) {
	c := routing.Claim{Host: s.Inputs.Host, Plan: s.Decision.Plan,
		Numbers: s.Inputs.Policy.Numbers}
	programs := len(c.Plan.State.Filters)+len(s.Decision.Owned.Filters) > 0
	if programs {
		c = c.Fallback()
	}
	p, err := prove(c)
	if err != nil {
		return &report.Proof{Unproved: err.Error()},
			fmt.Errorf("the plan could not be proved: %w", err)
	}
	if programs {
		p.NotRebuilt = append(p.NotRebuilt, "the programs of the mode last-hop: lasthop "+
			"proved the fallback instead")
	}
	return &report.Proof{Proof: p}, nil
}

// prove lets the kernel prove a claim. It does not change the host and leaves
// nothing behind.
func prove(c routing.Claim) (routing.Proof, error) {
	var first error
	for _, flags := range []uintptr{unix.CLONE_NEWUSER | unix.CLONE_NEWNET, unix.CLONE_NEWNET} {
		p, err := proveIn(flags, c)
		if !errors.Is(err, errRefused) {
			return p, err
		}
		if first == nil {
			first = err
		}
	}
	return routing.Proof{}, hint.New(first, remedy("/proc/sys"))
}

func proveIn(flags uintptr, c routing.Claim) (none routing.Proof, _ error) {
	ctx, cancel := context.WithTimeout(context.Background(), proveTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Args = []string{"lasthop", ProveCommand}
	cmd.Dir = "/"
	var stdin, stdout, stderr bytes.Buffer
	if err := gob.NewEncoder(&stdin).Encode(c); err != nil {
		return none, fmt.Errorf("encode the claim: %w", err)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = &stdin, &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags, Pdeathsig: syscall.SIGKILL}
	if flags&unix.CLONE_NEWUSER != 0 {
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0,
			HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0,
			HostID: os.Getegid(), Size: 1}}
	}
	runtime.LockOSThread() // the signal comes when the thread ends
	defer runtime.UnlockOSThread()
	err := cmd.Run()
	var answer proved
	switch {
	case cmd.Process == nil:
		return none, fmt.Errorf("%w: %w", errRefused, err)
	case ctx.Err() != nil:
		return none, fmt.Errorf("it took longer than %s", proveTimeout)
	case err != nil:
		return none, fmt.Errorf("%w: %s", err, strings.TrimSpace(stderr.String()))
	}
	if err := gob.NewDecoder(&stdout).Decode(&answer); err != nil {
		return none, fmt.Errorf("decode the proof: %w", err)
	}
	switch {
	case answer.Refused:
		return none, fmt.Errorf("%w: %s", errRefused, answer.Error)
	case answer.Error != "":
		return none, errors.New(answer.Error)
	}
	return answer.Proof, nil
}

// remedy names the setting that forbids it, if there is one.
func remedy(sysctls string) string {
	for _, s := range []struct{ path, forbids, allows string }{
		{"kernel/apparmor_restrict_unprivileged_userns", "1", "0"}, // Ubuntu
		{"kernel/unprivileged_userns_clone", "0", "1"},             // Debian
		{"user/max_user_namespaces", "0", "1000"},
		{"user/max_net_namespaces", "0", "1000"},
	} {
		data, err := os.ReadFile(sysctls + "/" + s.path)
		if err == nil && strings.TrimSpace(string(data)) == s.forbids {
			return fmt.Sprintf("run it as root, or allow it: sysctl %s=%s",
				strings.ReplaceAll(s.path, "/", "."), s.allows)
		}
	}
	return "run it as root; a container needs CAP_SYS_ADMIN, or a runtime that lets it make " +
		"user namespaces"
}

// ProveHere runs in that process: it reads a claim, proves it in the network
// namespace that it is in, which must be fresh, and writes the answer.
func ProveHere(in io.Reader, out io.Writer) error {
	var c routing.Claim
	if err := gob.NewDecoder(in).Decode(&c); err != nil {
		return fmt.Errorf("decode the claim: %w", err)
	}
	var answer proved
	var err error
	if answer.Proof, err = host.Prove(c); err != nil {
		answer.Error = err.Error()
		answer.Refused = errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES)
	}
	return gob.NewEncoder(out).Encode(answer)
}
