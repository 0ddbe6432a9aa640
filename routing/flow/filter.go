package flow

import (
	"fmt"
	"slices"

	"lasthop/routing"

	"golang.org/x/net/bpf"
)

// masks are the bits of a hash or of a random number that must be 0 for a
// packet to be taken: 0 takes all, 15 one in 16. They are 2^n - 1, so that each
// smaller mask takes what a larger one takes, too.
type masks [classes]uint32

// class is how a packet is sampled.
type class uint8

const (
	handshake  class = iota // SYN in, SYN-ACK and RST out, RST in: by flow
	payload                 // segments that leave with payload: by flow
	requests                // segments that come in with payload: by flow
	segments                // all other packets, UDP and echoes: at random
	neighbours              // ARP, ND, VRRP: at random
	classes
	unwanted // belongs to no class
)

// maxInstructions is the kernel's limit for a classic program (BPF_MAXINSNS).
const maxInstructions = 4096

// filterSpec is what a filter is made from.
type filterSpec struct {
	ports portSet // of listeners; everything if empty
	masks masks
	salt  uint32
	probe bool // take the errors that answer a probe
	// headless says that all packets take the general way: a link may call
	// itself Ethernet and have no link header.
	headless bool
}

// portSet is a set of ports as sorted ranges that do not touch.
type portSet []routing.PortRange

// portsOf returns the ports of listeners.
func portsOf(listeners []routing.Listener) portSet {
	all := make([]routing.PortRange, 0, len(listeners))
	for _, l := range listeners {
		all = append(all, l.Ports)
	}
	slices.SortFunc(all, func(a, b routing.PortRange) int {
		return int(a.First) - int(b.First)
	})
	var out portSet
	for _, r := range all {
		if n := len(out); n > 0 && int(r.First) <= int(out[n-1].Last)+1 {
			out[n-1].Last = max(out[n-1].Last, r.Last)
			continue
		}
		out = append(out, r)
	}
	return out
}

// Words of scratch memory. The kernel refuses a program that may read a word
// before it is written, and does not notice that a path has ended: so all words
// are written first.
const (
	mLeaving   = iota // 1 for a packet that leaves
	mSix              // 1 for IPv6
	mLink             // length of the link header, as far as it is known
	mNext             // protocol
	mTransport        // where the transport header begins, from the network header
	mMask             // of the packet's class
	mSum              // of the words of both addresses
	mMixed            // exclusive or of their last words
	mFlags
	mKeep  // how many bytes are kept
	mPlain // version of a plain packet, else 0
	scratchWords
)

// Offsets from the network header (linux/filter.h), whatever link header there
// is.
const skfNet = 0xfff00000 // SKF_NET_OFF

// Numbers of the kernel (linux/if_arp.h, if_packet.h, if_ether.h) and of IANA.
const (
	hatypeEther, hatypeLoopback = 1, 772
	hatypeInfiniBand            = 32
	hatypeGRE, hatypeGRE6       = 778, 823
	typeMulticast               = 2
	typeOtherHost               = 3
	typeOutgoing                = 4
	typeLoopback                = 5
	etherIPv4                   = 0x0800
	etherARP                    = 0x0806
	etherIPv6                   = 0x86dd
	protoICMP, protoTCP         = 1, 6
	protoUDP, protoICMP6        = 17, 58
	protoVRRP                   = 112

	flagFIN, flagSYN, flagRST, flagACK = 1, 2, 4, 16
)

// What is kept of a packet: no byte of payload.
const (
	etherBytes = 14
	// the length of another link header that a frame may begin with: for a
	// GRE tunnel without a fixed peer it is the outer packet's
	linkBytes = 80
	arpBytes  = 28
	tcpBytes  = 14 // ports, numbers, length, flags
	udpBytes  = 8  // as of ICMP and VRRP
	ndBytes   = 24 // to the target
	// of an error that answers a probe: the header, and of the quoted
	// packet the IP header and 8 bytes
	errorBytes = 8 + 40 + 8
)

// maxExtensions is how many extension headers of IPv6 are skipped.
const maxExtensions = 4

// assemble makes the program. If the ports do not fit, it leaves them out: all
// ports pass then, and the table drops packets that are for no listener.
func (s filterSpec) assemble() ([]bpf.RawInstruction, error) {
	c := s.program(s.ports)
	if len(c.ins) > maxInstructions {
		c = s.program(nil)
	}
	return c.link()
}

// shrink makes the program smaller, at the cost of time: first without the
// short way for plain packets, then without ports. It reports whether it could
// leave something out.
func (s *filterSpec) shrink() bool {
	switch {
	case !s.headless:
		s.headless = true
	case len(s.ports) > 0:
		s.ports = nil
	default:
		return false
	}
	return true
}

// program writes the program. The code behind the ports is there once for plain
// packets of each family, and once for all other packets.
func (s filterSpec) program(ports portSet) *code {
	c := &code{assembler: assembler{labels: map[string]int{}, targets: map[int]string{}}}
	c.begin()
	places := []place{elsewhere}
	if !s.headless {
		c.plain()
		places = []place{plain4, plain6, elsewhere}
	}
	c.protocols()
	c.v4()
	c.v6(s)
	c.ports(ports)
	if !s.headless {
		c.apart()
	}
	for _, c.place = range places {
		c.tcp()
		c.sampled(s)
	}
	c.mark("neighbours")
	c.random(s.masks[neighbours])
	return c
}

// code writes the parts of the filter.
type code struct {
	assembler
	place
}

// place is where the headers of a packet are. A plain packet follows an
// Ethernet header and has no options and no extension headers. Nearly all
// packets are plain. The kernel compiles loads at fixed places of a frame, and
// calls a function for loads behind the network header, which takes five times
// as long.
type place struct {
	scope     string // of labels
	version   uint32 // 0 for not plain
	transport int    // of a plain packet, from the network header on
}

var (
	plain4    = place{"plain 4: ", 4, 20}
	plain6    = place{"plain 6: ", 6, 40}
	elsewhere = place{}
)

// load loads n bytes of the network header and what follows it.
func (c *code) load(at, n int) {
	from := uint32(skfNet)
	if c.version != 0 {
		from = etherBytes
	}
	c.op(bpf.LoadAbsolute{Off: from + uint32(at), Size: n})
}

// loadAt loads n bytes of the transport header. Unless the packet is plain, X
// is then where that header begins.
func (c *code) loadAt(at, n int) {
	if c.version != 0 {
		c.load(c.transport+at, n)
		return
	}
	c.getX(mTransport)
	c.op(bpf.LoadIndirect{Off: skfNet + uint32(at), Size: n})
}

func (c *code) mark(label string) { c.assembler.mark(c.scope + label) }
func (c *code) jump(label string) { c.assembler.jump(c.scope + label) }
func (c *code) when(cond bpf.JumpTest, value uint32, label string) {
	c.assembler.when(cond, value, c.scope+label)
}

// assembler collects a program. Jumps go forward to labels.
type assembler struct {
	ins     []bpf.Instruction
	labels  map[string]int
	targets map[int]string // of jumps, by their index
}

func (c *assembler) op(ins ...bpf.Instruction) { c.ins = append(c.ins, ins...) }

func (c *assembler) mark(label string) { c.labels[label] = len(c.ins) }

func (c *assembler) jump(label string) {
	c.targets[len(c.ins)] = label
	c.op(bpf.Jump{})
}

// when jumps to the label if the comparison of A with the value holds.
func (c *assembler) when(cond bpf.JumpTest, value uint32, label string) {
	c.targets[len(c.ins)] = label
	c.op(bpf.JumpIf{Cond: cond, Val: value})
}

// dropIf drops the packet if the comparison of A with the value holds.
func (c *assembler) dropIf(cond bpf.JumpTest, value uint32) {
	c.op(bpf.JumpIf{Cond: cond, Val: value, SkipFalse: 1}, bpf.RetConstant{})
}

// get loads a word of scratch memory into A, put stores A there.
func (c *assembler) get(word int)  { c.op(bpf.LoadScratch{Dst: bpf.RegA, N: word}) }
func (c *assembler) put(word int)  { c.op(bpf.StoreScratch{Src: bpf.RegA, N: word}) }
func (c *assembler) getX(word int) { c.op(bpf.LoadScratch{Dst: bpf.RegX, N: word}) }

// with makes A = A op value, withX A = A op X.
func (c *assembler) with(op bpf.ALUOp, value uint32) {
	c.op(bpf.ALUOpConstant{Op: op, Val: value})
}
func (c *assembler) withX(op bpf.ALUOp) { c.op(bpf.ALUOpX{Op: op}) }

// set stores a constant.
func (c *assembler) set(word int, value uint32) {
	c.op(bpf.LoadConstant{Dst: bpf.RegA, Val: value})
	c.put(word)
}

// link resolves the labels.
func (c *assembler) link() ([]bpf.RawInstruction, error) {
	for at, label := range c.targets {
		to, ok := c.labels[label]
		skip := to - at - 1
		switch ins := c.ins[at].(type) {
		case bpf.Jump:
			ins.Skip = uint32(skip)
			c.ins[at] = ins
		case bpf.JumpIf:
			ins.SkipTrue = uint8(skip)
			c.ins[at] = ins
			ok = ok && skip <= 255
		}
		if !ok || skip < 0 {
			return nil, fmt.Errorf("assemble filter: jump to %s is %d long", label,
				skip)
		}
	}
	return bpf.Assemble(c.ins)
}

// begin drops loopback, tagged and passing frames.
func (c *code) begin() {
	c.op(bpf.LoadConstant{Dst: bpf.RegA})
	for word := range scratchWords {
		c.put(word)
	}
	c.op(bpf.LoadExtension{Num: bpf.ExtLinkLayerType})
	c.dropIf(bpf.JumpEqual, hatypeLoopback)
	c.when(bpf.JumpNotEqual, hatypeEther, "not Ethernet")
	c.set(mLink, etherBytes)
	c.mark("not Ethernet")
	c.op(bpf.LoadExtension{Num: bpf.ExtVLANTagPresent})
	c.when(bpf.JumpEqual, 0, "no tag")
	c.op(bpf.LoadExtension{Num: bpf.ExtVLANTag})
	c.with(bpf.ALUOpAnd, 0xfff)
	c.dropIf(bpf.JumpNotEqual, 0)
	c.mark("no tag")
	c.op(bpf.LoadExtension{Num: bpf.ExtType})
	c.dropIf(bpf.JumpEqual, typeOtherHost)
	c.dropIf(bpf.JumpGreaterThan, typeOutgoing)
	c.when(bpf.JumpNotEqual, typeOutgoing, "comes in")
	c.set(mLeaving, 1)
	c.mark("comes in")
}

// plain leads plain packets to their port.
func (c *code) plain() {
	c.get(mLink)
	c.when(bpf.JumpEqual, 0, "not plain")
	c.op(bpf.LoadAbsolute{Off: etherBytes - 2, Size: 4})
	c.with(bpf.ALUOpShiftRight, 8)
	c.when(bpf.JumpNotEqual, etherIPv4<<8|0x45, "not plain 4")
	c.place = plain4
	c.load(6, 2)
	c.dropIf(bpf.JumpBitsSet, 0x1fff)
	c.plainPort(9)
	c.mark("not plain 4")
	c.with(bpf.ALUOpShiftRight, 8)
	c.when(bpf.JumpNotEqual, etherIPv6, "not plain")
	c.place = plain6
	c.plainPort(6)
	c.mark("not plain")
}

// plainPort loads the port on this host's side of a plain packet; next is where
// its protocol is.
func (c *code) plainPort(next int) {
	c.load(next, 1)
	c.put(mNext)
	c.when(bpf.JumpEqual, protoTCP, "has ports")
	c.assembler.when(bpf.JumpNotEqual, protoUDP, "not plain")
	c.mark("has ports")
	c.set(mPlain, c.version)
	c.get(mLeaving)
	c.when(bpf.JumpEqual, 1, "leaves")
	c.loadAt(2, 2)
	c.assembler.jump("which port")
	c.mark("leaves")
	c.loadAt(0, 2)
	c.assembler.jump("which port")
	c.place = elsewhere
}

// protocols branches by protocol.
func (c *code) protocols() {
	c.op(bpf.LoadExtension{Num: bpf.ExtProto})
	c.when(bpf.JumpEqual, etherIPv4, "v4")
	c.when(bpf.JumpEqual, etherIPv6, "v6")
	c.dropIf(bpf.JumpNotEqual, etherARP)
	c.keepTo(arpBytes)
	c.jump("neighbours")
}

// keepTo keeps the link header and n bytes from the transport header on, which
// for ARP is the network header.
func (c *code) keepTo(n uint32) {
	if c.version != 0 {
		c.set(mKeep, etherBytes+uint32(c.transport)+n)
		return
	}
	c.get(mTransport)
	c.with(bpf.ALUOpAdd, n)
	c.getX(mLink)
	c.withX(bpf.ALUOpAdd)
	c.put(mKeep)
}

// linkHeader finds the length of a link header that is not Ethernet's: the
// bytes of a frame in front of the packet. Only some links have one, and the
// kernel does not say which. The packet's header has its length at an offset,
// without the bytes in front of it.
func (c *code) linkHeader(family string, at int, without uint32) {
	known := "link header of " + family
	c.get(mLink)
	c.when(bpf.JumpNotEqual, 0, known)
	c.op(bpf.LoadExtension{Num: bpf.ExtLinkLayerType})
	for _, kind := range []uint32{hatypeGRE, hatypeGRE6, hatypeInfiniBand} {
		c.when(bpf.JumpEqual, kind, "find "+known)
	}
	c.jump(known)
	c.mark("find " + known)
	c.load(at, 2)
	c.with(bpf.ALUOpAdd, without)
	c.op(bpf.TAX{}, bpf.LoadExtension{Num: bpf.ExtLen})
	c.withX(bpf.ALUOpSub)
	c.when(bpf.JumpGreaterThan, linkBytes, known) // a jumbo packet does not say its length
	c.put(mLink)
	c.mark(known)
}

// v4 reads the header of IPv4. Later fragments have no ports.
func (c *code) v4() {
	c.mark("v4")
	c.linkHeader("v4", 2, 0)
	c.load(6, 2)
	c.dropIf(bpf.JumpBitsSet, 0x1fff)
	c.op(bpf.LoadMemShift{Off: skfNet}, bpf.TXA{})
	c.put(mTransport)
	c.load(9, 1)
	c.put(mNext)
	c.when(bpf.JumpEqual, protoTCP, "ports")
	c.when(bpf.JumpEqual, protoUDP, "ports")
	c.when(bpf.JumpEqual, protoVRRP, "vrrp")
	c.dropIf(bpf.JumpNotEqual, protoICMP)
	c.echo(8, 0)
}

// echo takes echo requests that come in and replies that leave; else it goes on
// to "other", with the type in A.
func (c *code) echo(request, reply uint32) {
	other := fmt.Sprintf("other %d", request)
	c.loadAt(0, 1)
	c.op(bpf.TAX{})
	c.get(mLeaving)
	c.when(bpf.JumpEqual, 1, "leaves"+other)
	c.op(bpf.TXA{})
	c.when(bpf.JumpNotEqual, request, other)
	c.keepTo(udpBytes)
	c.jump("segments")
	c.mark("leaves" + other)
	c.op(bpf.TXA{})
	c.when(bpf.JumpNotEqual, reply, other)
	c.keepTo(udpBytes)
	c.jump("segments")
	c.mark(other)
	if request == 8 {
		c.when(bpf.JumpEqual, 11, "error")
		c.op(bpf.RetConstant{})
	}
}

// v6 reads the header of IPv6 and skips extension headers.
func (c *code) v6(s filterSpec) {
	c.mark("v6")
	c.set(mSix, 1)
	c.set(mTransport, 40)
	c.linkHeader("v6", 4, 40)
	c.load(6, 1)
	c.put(mNext)
	for i := range maxExtensions {
		c.extension(i)
	}
	c.mark("no extension")
	c.get(mNext)
	c.when(bpf.JumpEqual, protoTCP, "ports")
	c.when(bpf.JumpEqual, protoUDP, "ports")
	c.when(bpf.JumpEqual, protoVRRP, "vrrp")
	c.dropIf(bpf.JumpNotEqual, protoICMP6)
	c.echo(128, 129)
	c.when(bpf.JumpEqual, 3, "error")
	c.dropIf(bpf.JumpLessThan, 133)
	c.dropIf(bpf.JumpGreaterThan, 136)
	c.keepTo(ndBytes)
	c.jump("neighbours")
	c.mark("error")
	c.get(mLeaving)
	c.dropIf(bpf.JumpEqual, 1)
	if !s.probe {
		c.op(bpf.RetConstant{})
	}
	c.keepTo(errorBytes)
	c.jump("neighbours")
	c.mark("vrrp")
	c.get(mLeaving)
	c.dropIf(bpf.JumpEqual, 1)
	c.keepTo(udpBytes)
	c.jump("neighbours")
}

// extension skips one extension header, if there is one: hop-by-hop, routing,
// destination options, and that of a first fragment.
func (c *code) extension(i int) {
	options, fragment := fmt.Sprintf("options %d", i), fmt.Sprintf("fragment %d", i)
	c.get(mNext)
	c.when(bpf.JumpEqual, 0, options)
	c.when(bpf.JumpEqual, 43, options)
	c.when(bpf.JumpEqual, 60, options)
	c.when(bpf.JumpEqual, 44, fragment)
	c.jump("no extension")
	c.mark(fragment)
	c.loadAt(2, 2)
	c.dropIf(bpf.JumpBitsSet, 0xfff8)
	c.loadAt(0, 1)
	c.put(mNext)
	c.op(bpf.TXA{})
	c.with(bpf.ALUOpAdd, 8)
	c.put(mTransport)
	c.jump("next" + options)
	c.mark(options)
	c.loadAt(0, 1)
	c.put(mNext)
	c.loadAt(1, 1)
	c.with(bpf.ALUOpAdd, 1)
	c.with(bpf.ALUOpShiftLeft, 3)
	c.withX(bpf.ALUOpAdd)
	c.put(mTransport)
	c.mark("next" + options)
}

// ports goes on if the listener's side has one of the ports.
func (c *code) ports(ports portSet) {
	c.mark("ports")
	c.get(mLeaving)
	c.when(bpf.JumpEqual, 1, "leaves from a port")
	c.loadAt(2, 2)
	c.jump("which port")
	c.mark("leaves from a port")
	c.loadAt(0, 2)
	c.mark("which port")
	if len(ports) > 0 {
		c.op(portTree(ports)...)
	}
}

// apart sends each packet to the code for its place: plain packets of IPv4 go
// on.
func (c *code) apart() {
	c.get(mPlain)
	c.when(bpf.JumpEqual, plain6.version, plain6.scope+"tcp")
	c.when(bpf.JumpEqual, elsewhere.version, "tcp")
}

// tcp recognises handshakes by their direction, which excludes connections that
// this host opens. It ignores UDP.
func (c *code) tcp() {
	c.mark("tcp")
	c.get(mNext)
	c.when(bpf.JumpEqual, protoUDP, "udp")
	c.keepTo(tcpBytes)
	c.loadAt(13, 1)
	c.put(mFlags)
	c.when(bpf.JumpBitsSet, flagRST, "handshake")
	c.get(mLeaving)
	c.when(bpf.JumpEqual, 1, "tcp leaves")
	c.get(mFlags)
	c.with(bpf.ALUOpAnd, flagSYN|flagACK)
	c.when(bpf.JumpEqual, flagSYN, "handshake")
	c.dropIf(bpf.JumpBitsSet, flagSYN)
	c.withPayload("requests")
	c.mark("tcp leaves")
	c.get(mFlags)
	c.with(bpf.ALUOpAnd, flagSYN|flagACK)
	c.when(bpf.JumpEqual, flagSYN|flagACK, "handshake")
	c.dropIf(bpf.JumpBitsSet, flagSYN)
	c.withPayload("payload")
}

// withPayload goes on with segments that carry payload as one class, and with
// all other segments as class segments.
func (c *code) withPayload(label string) {
	c.loadAt(12, 1)
	c.with(bpf.ALUOpShiftRight, 4)
	c.with(bpf.ALUOpShiftLeft, 2)
	if c.version != 0 {
		c.with(bpf.ALUOpAdd, uint32(c.transport))
	} else {
		c.withX(bpf.ALUOpAdd)
	}
	c.op(bpf.TAX{}) // where the payload begins
	c.byFamily(label, func() { c.load(2, 2) }, func() {
		c.load(4, 2)
		c.with(bpf.ALUOpAdd, 40)
	})
	c.withX(bpf.ALUOpSub)
	c.when(bpf.JumpEqual, 0, "segments of tcp")
	c.jump(label)
}

// byFamily goes on with the code for the family of the packet.
func (c *code) byFamily(label string, four, six func()) {
	switch c.version {
	case 4:
		four()
	case 6:
		six()
	default:
		c.get(mSix)
		c.when(bpf.JumpEqual, 1, "six"+label)
		four()
		c.jump("end" + label)
		c.mark("six" + label)
		six()
		c.mark("end" + label)
	}
}

// sampled takes the packets that the masks take.
func (c *code) sampled(s filterSpec) {
	for _, x := range []struct {
		label string
		class class
	}{{"handshake", handshake}, {"payload", payload}, {"requests", requests}} {
		c.mark(x.label)
		c.set(mMask, s.masks[x.class])
		c.jump("hashed")
	}
	c.mark("udp")
	c.keepTo(udpBytes)
	c.mark("segments of tcp")
	c.mark("segments")
	c.random(s.masks[segments])
	c.mark("hashed")
	c.hash(s.salt)
	c.getX(mMask)
	c.withX(bpf.ALUOpAnd)
	c.dropIf(bpf.JumpNotEqual, 0)
	c.get(mKeep)
	c.op(bpf.RetA{})
}

// random takes the packet by a random number.
func (c *code) random(mask uint32) {
	if mask != 0 {
		c.op(bpf.LoadExtension{Num: bpf.ExtRand})
		c.with(bpf.ALUOpAnd, mask)
		c.dropIf(bpf.JumpNotEqual, 0)
	}
	c.get(mKeep)
	c.op(bpf.RetA{})
}

// Odd numbers with about as many ones as zeros.
const (
	factor1 = 0x9e3779b1
	factor2 = 0x85ebca77
	factor3 = 0xc2b2ae3d
)

// hash computes what flowHash does.
func (c *code) hash(salt uint32) {
	c.byFamily("addresses", c.addresses4, c.addresses6)
	c.loadAt(0, 2)
	c.put(mFlags) // not needed any more
	c.loadAt(2, 2)
	c.getX(mFlags)
	c.withX(bpf.ALUOpAdd)
	c.with(bpf.ALUOpMul, factor2)
	c.put(mFlags)
	c.get(mSum)
	c.with(bpf.ALUOpXor, salt)
	c.with(bpf.ALUOpMul, factor1)
	c.getX(mMixed)
	c.withX(bpf.ALUOpAdd)
	c.getX(mFlags)
	c.withX(bpf.ALUOpXor)
	c.with(bpf.ALUOpMul, factor3)
	c.with(bpf.ALUOpShiftRight, 12)
}

// addresses4 sums both addresses, and mixes them.
func (c *code) addresses4() {
	c.load(12, 4)
	c.put(mSum)
	c.load(16, 4)
	c.op(bpf.TAX{})
	c.get(mSum)
	c.withX(bpf.ALUOpXor)
	c.put(mMixed)
	c.get(mSum)
	c.withX(bpf.ALUOpAdd)
	c.put(mSum)
}

// addresses6 sums the words of both addresses, and mixes their last ones.
func (c *code) addresses6() {
	for word := range 8 {
		c.load(8+4*word, 4)
		if word%4 == 3 {
			c.put(mFlags)
			c.getX(mMixed)
			c.withX(bpf.ALUOpXor)
			c.put(mMixed)
			c.get(mFlags)
		}
		c.getX(mSum)
		c.withX(bpf.ALUOpAdd)
		c.put(mSum)
	}
}

// flowHash returns the same value for both directions of a flow. Without the
// salt no sender can know which flows a mask takes.
func flowHash(salt, sum, mixed uint32, sport, dport uint16) uint32 {
	ports := (uint32(sport) + uint32(dport)) * factor2
	return (((sum^salt)*factor1 + mixed) ^ ports) * factor3 >> 12
}

// leafRanges is how many ranges the leaves of the tree compare one by one.
const leafRanges = 8

// portTree returns the comparisons of A with ranges. A match goes on behind
// them; all other packets are dropped.
func portTree(ports portSet) []bpf.Instruction {
	tree := portBranch(ports)
	for i, ins := range tree {
		if ins == found {
			tree[i] = bpf.Jump{Skip: uint32(len(tree) - i - 1)}
		}
	}
	return tree
}

// found stands for a jump behind the tree.
var found bpf.Instruction = bpf.Jump{Skip: 1<<32 - 1}

// portBranch compares with half of the ranges on each side, and at the leaves
// with one by one.
func portBranch(ports portSet) []bpf.Instruction {
	if len(ports) <= leafRanges {
		return portLeaf(ports)
	}
	half := len(ports) / 2
	left, right := portBranch(ports[:half]), portBranch(ports[half:])
	first := uint32(ports[half].First)
	if len(left) <= 255 {
		head := bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: first,
			SkipTrue: uint8(len(left))}
		return slices.Concat([]bpf.Instruction{head}, left, right)
	}
	head := []bpf.Instruction{
		bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: first, SkipFalse: 1},
		bpf.Jump{Skip: uint32(len(left))}}
	return slices.Concat(head, left, right)
}

// portLeaf compares A with a few ranges.
func portLeaf(ports portSet) []bpf.Instruction {
	var size int // of the comparisons
	for _, r := range ports {
		size += comparisons(r)
	}
	var out []bpf.Instruction
	for _, r := range ports {
		if r.First == r.Last {
			skip := uint8(size - len(out))
			out = append(out, bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(r.First),
				SkipTrue: skip})
			continue
		}
		out = append(out, bpf.JumpIf{Cond: bpf.JumpLessThan, Val: uint32(r.First),
			SkipTrue: 1})
		out = append(out, bpf.JumpIf{Cond: bpf.JumpLessOrEqual, Val: uint32(r.Last),
			SkipTrue: uint8(size - len(out))})
	}
	return append(out, bpf.RetConstant{}, found)
}

func comparisons(r routing.PortRange) int {
	if r.First == r.Last {
		return 1
	}
	return 2
}
