// A bare KCP endpoint over kcp-go: a sink, a source or an echo, as a peer for `iperfpy kcp-peer`.
//
//	GO111MODULE=off GOPATH=/usr/share/gocode go build -o kcp_peer examples/kcp_peer.go
//
// builds it with Debian's packages golang-go and golang-github-xtaci-kcp-dev. A newer kcp-go needs a module of its
// own and the import path github.com/xtaci/kcp-go/v5; it has NewAESGCMCrypt(key[:16]), iperfpy's aes-128-gcm, as well.
//
//	./kcp_peer -listen :5400                a sink                 iperfpy kcp-peer HOST:5400
//	./kcp_peer -listen :5400 -mode source   sends all it can       iperfpy kcp-peer HOST:5400 -R
//	./kcp_peer -listen :5400 -mode echo     returns what it reads  iperfpy kcp-peer HOST:5400 --echo
//	./kcp_peer -dial HOST:5400 -seconds 10  a sender               iperfpy kcp-peer --listen :5400
//	./kcp_peer -dial HOST:5400 -mode sink   asks for data          iperfpy kcp-peer --listen :5400 -R
//
// The flags of the envelope are kcptun's: -ds, -ps, -crypt, -key. Each session ends when nothing has moved for
// -silence, and prints a line of JSON: bytes read and written, and the seconds from the first byte to the last.
package main

import (
	"crypto/sha1"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"sync"
	"time"

	kcp "github.com/xtaci/kcp-go"
	"golang.org/x/crypto/pbkdf2"
)

type settings struct {
	mode, crypt, key                       string
	data, parity                           int
	window, mtu, interval, nodelay, resend int
	nc, block                              int
	seconds                                float64
	silence                                time.Duration
	once                                   bool
}

// cipher gives the block cipher under the key that kcptun derives; nil without encryption.
func (s settings) cipher() (kcp.BlockCrypt, error) {
	key := pbkdf2.Key([]byte(s.key), []byte("kcp-go"), 4096, 32, sha1.New)
	switch s.crypt {
	case "null":
		return nil, nil
	case "none":
		return kcp.NewNoneBlockCrypt(key)
	case "aes":
		return kcp.NewAESBlockCrypt(key)
	case "aes-128":
		return kcp.NewAESBlockCrypt(key[:16])
	case "aes-192":
		return kcp.NewAESBlockCrypt(key[:24])
	case "salsa20":
		return kcp.NewSalsa20BlockCrypt(key)
	case "xor":
		return kcp.NewSimpleXORBlockCrypt(key)
	}
	return nil, fmt.Errorf("no cipher %q", s.crypt)
}

func (s settings) tune(session *kcp.UDPSession) {
	session.SetStreamMode(true)
	session.SetWriteDelay(false)
	session.SetACKNoDelay(true)
	session.SetMtu(s.mtu)
	session.SetWindowSize(s.window, s.window)
	session.SetNoDelay(s.nodelay, s.interval, s.resend, s.nc)
}

// count is what one session has moved.
type count struct {
	lock        sync.Mutex
	first, last time.Time
	Read        int64   `json:"bytes_read"`
	Written     int64   `json:"bytes_written"`
	Seconds     float64 `json:"seconds"`
}

func (c *count) add(read, written int) {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.last = time.Now()
	if c.first.IsZero() {
		c.first = c.last
	}
	c.Read += int64(read)
	c.Written += int64(written)
}

func (c *count) print() {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.Seconds = c.last.Sub(c.first).Seconds()
	json.NewEncoder(os.Stdout).Encode(c)
}

// read takes what comes, and writes it back if it is to be an echo, until nothing comes.
func read(session *kcp.UDPSession, s settings, echo bool, moved *count) {
	buffer := make([]byte, 1<<17)
	for {
		session.SetReadDeadline(time.Now().Add(s.silence))
		n, err := session.Read(buffer)
		if err != nil {
			return
		}
		moved.add(n, 0)
		if !echo {
			continue
		}
		session.SetWriteDeadline(time.Now().Add(s.silence))
		if _, err := session.Write(buffer[:n]); err != nil {
			return
		}
		moved.add(0, n)
	}
}

// write sends until the time is over, or until nothing more is taken.
func write(session *kcp.UDPSession, s settings, moved *count) {
	buffer := make([]byte, s.block)
	end := time.Now().Add(time.Duration(s.seconds * float64(time.Second)))
	for s.seconds == 0 || time.Now().Before(end) {
		session.SetWriteDeadline(time.Now().Add(s.silence))
		n, err := session.Write(buffer)
		if err != nil {
			return
		}
		moved.add(0, n)
	}
	time.Sleep(s.silence / 4) // what is still in the window leaves
}

func serve(session *kcp.UDPSession, s settings) {
	defer session.Close()
	s.tune(session)
	var moved count
	switch s.mode {
	case "source":
		write(session, s, &moved)
	case "echo":
		read(session, s, true, &moved)
	default:
		read(session, s, false, &moved)
	}
	moved.print()
}

func listen(address string, s settings) error {
	block, err := s.cipher()
	if err != nil {
		return err
	}
	listener, err := kcp.ListenWithOptions(address, block, s.data, s.parity)
	if err != nil {
		return err
	}
	defer listener.Close()
	listener.SetReadBuffer(4 << 20)
	listener.SetWriteBuffer(4 << 20)
	fmt.Fprintln(os.Stderr, "listening on", listener.Addr())
	for {
		session, err := listener.AcceptKCP()
		if err != nil {
			return err
		}
		if s.once {
			serve(session, s)
			return nil
		}
		go serve(session, s)
	}
}

func dial(address string, s settings) error {
	block, err := s.cipher()
	if err != nil {
		return err
	}
	session, err := kcp.DialWithOptions(address, block, s.data, s.parity)
	if err != nil {
		return err
	}
	defer session.Close()
	session.SetReadBuffer(4 << 20)
	session.SetWriteBuffer(4 << 20)
	s.tune(session)
	var moved count
	if s.mode == "sink" {
		// The end that listens learns of this one by its first datagram.
		if _, err := session.Write([]byte("?")); err != nil {
			return err
		}
		read(session, s, false, &moved)
	} else {
		write(session, s, &moved)
	}
	moved.print()
	if moved.Read+moved.Written == 0 {
		return errors.New("nothing was moved")
	}
	return nil
}

func main() {
	var s settings
	to := flag.String("listen", "", "address to listen on")
	from := flag.String("dial", "", "address to dial")
	flag.StringVar(&s.mode, "mode", "", "sink, source or echo [the end that listens: sink; the other: source]")
	flag.StringVar(&s.crypt, "crypt", "null", "cipher: null, none, aes, aes-128, aes-192, salsa20, xor")
	flag.StringVar(&s.key, "key", "it's a secrect", "secret of the cipher")
	flag.IntVar(&s.data, "ds", 0, "data datagrams of a set")
	flag.IntVar(&s.parity, "ps", 0, "parity datagrams of a set")
	flag.IntVar(&s.window, "window", 1024, "send and receive window, segments")
	flag.IntVar(&s.mtu, "mtu", 1400, "bytes of a datagram")
	flag.IntVar(&s.interval, "interval", 10, "interval, ms")
	flag.IntVar(&s.nodelay, "nodelay", 1, "1: short timeouts")
	flag.IntVar(&s.resend, "resend", 2, "ACKs that pass a segment before it is resent")
	flag.IntVar(&s.nc, "nc", 1, "1: no congestion control")
	flag.IntVar(&s.block, "block", 128<<10, "bytes per write")
	flag.Float64Var(&s.seconds, "seconds", 10, "how long a sender sends, 0: until it is ended")
	flag.DurationVar(&s.silence, "silence", 2*time.Second, "end a session in which nothing moves")
	flag.BoolVar(&s.once, "once", false, "end after one session")
	flag.Parse()
	err := errors.New("kcp_peer needs -listen ADDRESS or -dial ADDRESS")
	if *to != "" {
		err = listen(*to, s)
	} else if *from != "" {
		err = dial(*from, s)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "kcp_peer:", err)
		os.Exit(1)
	}
}
