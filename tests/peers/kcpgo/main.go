// A bulk sender and sink over kcp-go, for the benchmark.
//
//	kcpgo -serve -address 127.0.0.1:5400           takes one session, counts, prints JSON, ends
//	kcpgo -address 127.0.0.1:5400 -seconds 2       sends for two seconds, prints JSON, ends
//
// With -bytes N, the source sends N bytes of a random sequence and stays until its standard input is closed; the
// sink ends when it has N bytes. Both print the SHA-256 of the bytes. -ds, -ps, -crypt and -key are kcptun's. -oob
// sends out-of-band datagrams beside the bytes, the first one before them.
//
// The tests build it with Debian's packages. For a newer kcp-go, build it in a module of its own with `-tags newer`
// and the import path github.com/xtaci/kcp-go/v5; -about prints what the library can do.
//
// The sink's count is the one to believe: a writer is ahead of the path by a window.
//
// Now and then kcp-go moves nothing any more for seconds, or for good. Nothing here waits without a deadline: a
// source that cannot write says that it stalled and ends with an error, so that the run can be repeated.
package main

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"math/rand"
	"os"
	"runtime/debug"
	"strings"
	"time"

	kcp "github.com/xtaci/kcp-go"
	"golang.org/x/crypto/pbkdf2"
)

// How long the sink waits for the first byte, and for the next one: kcp has no end of stream.
const (
	patience = 20 * time.Second
	silence  = 400 * time.Millisecond
	stall    = 3 * time.Second // longer than this no write may take
)

var errStalled = errors.New("stalled: nothing could be written for " + stall.String())

const socketBuffer = 4 << 20

type tuning struct {
	window, mtu, flush, nodelay, resend, nc int
}

func (t tuning) apply(session *kcp.UDPSession) {
	session.SetStreamMode(true)
	session.SetACKNoDelay(true)
	session.SetMtu(t.mtu)
	session.SetWindowSize(t.window, t.window)
	session.SetNoDelay(t.nodelay, t.flush, t.resend, t.nc)
}

// envelope is what kcp-go wraps around the KCP bytes of a datagram.
type envelope struct {
	data, parity int
	crypt, key   string
	oob          time.Duration // between out-of-band datagrams, 0 for none
}

// block gives the cipher, with the key that kcptun derives.
func (e envelope) block() (kcp.BlockCrypt, error) {
	key := pbkdf2.Key([]byte(e.key), []byte("kcp-go"), 4096, 32, sha1.New)
	switch e.crypt {
	case "", "null":
		return nil, nil
	case "none":
		return kcp.NewNoneBlockCrypt(key)
	case "aes":
		return kcp.NewAESBlockCrypt(key)
	case "aes-128-gcm":
		return aesGCM(key[:16])
	case "aes-128":
		return kcp.NewAESBlockCrypt(key[:16])
	case "aes-192":
		return kcp.NewAESBlockCrypt(key[:24])
	case "salsa20":
		return kcp.NewSalsa20BlockCrypt(key)
	case "xor":
		return kcp.NewSimpleXORBlockCrypt(key)
	}
	return nil, errors.New("no cipher " + e.crypt)
}

type buffered interface {
	SetReadBuffer(int) error
	SetWriteBuffer(int) error
}

func sizeBuffers(socket buffered) error {
	if err := socket.SetReadBuffer(socketBuffer); err != nil {
		return err
	}
	return socket.SetWriteBuffer(socketBuffer)
}

type report struct {
	Bytes       int64   `json:"bytes"`
	Seconds     float64 `json:"seconds"`
	Segments    uint64  `json:"segments_sent,omitempty"`
	Retransmits uint64  `json:"retransmits,omitempty"`
	Recovered   uint64  `json:"fec_recovered,omitempty"`
	Sha256      string  `json:"sha256,omitempty"`
}

func (r report) print() error { return json.NewEncoder(os.Stdout).Encode(r) }

// about tells what the library can do, and its version if the program was built in a module.
type about struct {
	Version string   `json:"version"`
	Ciphers []string `json:"ciphers"`
	Oob     bool     `json:"oob"`
}

func (a about) print() error {
	a.Ciphers = []string{"null", "none", "aes", "aes-128", "aes-192", "salsa20", "xor"}
	if a.Oob = hasNewer; a.Oob {
		a.Ciphers = append(a.Ciphers, "aes-128-gcm")
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, module := range info.Deps {
			if strings.HasPrefix(module.Path, "github.com/xtaci/kcp-go") {
				a.Version = module.Version
			}
		}
	}
	return json.NewEncoder(os.Stdout).Encode(a)
}

// chatter sends an out-of-band datagram at once, and others until done is closed: empty ones, short and longest ones.
func chatter(session *kcp.UDPSession, every time.Duration, done <-chan struct{}) error {
	longest := longestOutOfBand(session)
	payload := make([]byte, longest)
	if err := sendOutOfBand(session, payload[:0]); err != nil {
		return err
	}
	go func() {
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			case <-ticker.C:
				sendOutOfBand(session, payload[:longest*(i%4)/3])
			}
		}
	}()
	return nil
}

func sink(address string, with tuning, around envelope, bytes int64) error {
	block, err := around.block()
	if err != nil {
		return err
	}
	listener, err := kcp.ListenWithOptions(address, block, around.data, around.parity)
	if err != nil {
		return err
	}
	defer listener.Close()
	if err := sizeBuffers(listener); err != nil {
		return err
	}
	listener.SetDeadline(time.Now().Add(patience))
	session, err := listener.AcceptKCP()
	if err != nil {
		return err
	}
	defer session.Close()
	with.apply(session)
	if around.oob > 0 {
		done := make(chan struct{})
		defer close(done)
		if err := chatter(session, around.oob, done); err != nil {
			return err
		}
	}
	if bytes > 0 {
		return take(session, bytes)
	}
	count, err := drain(session)
	if err != nil {
		return err
	}
	return count.print()
}

// take reads so many bytes, and stays until its standard input is closed: it must acknowledge the last ones.
func take(session *kcp.UDPSession, bytes int64) error {
	session.SetReadDeadline(time.Now().Add(patience))
	sum := sha256.New()
	if _, err := io.CopyN(sum, session, bytes); err != nil {
		return err
	}
	recovered := kcp.DefaultSnmp.Copy().FECRecovered
	count := report{Bytes: bytes, Recovered: recovered, Sha256: hex.EncodeToString(sum.Sum(nil))}
	if err := count.print(); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// give sends so many bytes, and stays until its standard input is closed.
func give(session *kcp.UDPSession, bytes int64, block int) error {
	sum := sha256.New()
	random := io.LimitReader(rand.New(rand.NewSource(1)), bytes)
	session.SetWriteDeadline(time.Now().Add(patience))
	if _, err := io.CopyBuffer(io.MultiWriter(session, sum), random, make([]byte, block)); err != nil {
		return err
	}
	count := report{Bytes: bytes, Sha256: hex.EncodeToString(sum.Sum(nil))}
	if err := count.print(); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// drain reads until nothing has come for a while; the time that counts is from the first byte to the last.
func drain(session *kcp.UDPSession) (report, error) {
	var count report
	var first, last time.Time
	buffer := make([]byte, 1<<17)
	wait := patience
	for {
		session.SetReadDeadline(time.Now().Add(wait))
		n, err := session.Read(buffer)
		if err != nil && count.Bytes > 0 && time.Since(last) >= silence {
			count.Seconds = last.Sub(first).Seconds()
			return count, nil
		} else if err != nil {
			return count, err
		}
		last = time.Now()
		if count.Bytes == 0 {
			first = last
		}
		count.Bytes += int64(n)
		wait = silence
	}
}

func source(address string, with tuning, around envelope, seconds float64, bytes int64, block int) error {
	cipher, err := around.block()
	if err != nil {
		return err
	}
	session, err := kcp.DialWithOptions(address, cipher, around.data, around.parity)
	if err != nil {
		return err
	}
	defer session.Close()
	with.apply(session)
	if err := sizeBuffers(session); err != nil {
		return err
	}
	if around.oob > 0 {
		done := make(chan struct{})
		defer close(done)
		if err := chatter(session, around.oob, done); err != nil {
			return err
		}
	}
	if bytes > 0 {
		return give(session, bytes, block)
	}
	buffer := make([]byte, block)
	began := time.Now()
	end := began.Add(time.Duration(seconds * float64(time.Second)))
	var count report
	for ok := true; ok; ok = time.Now().Before(end) {
		session.SetWriteDeadline(time.Now().Add(stall))
		before := time.Now()
		n, err := session.Write(buffer)
		if err != nil && time.Since(before) >= stall {
			return errStalled
		} else if err != nil {
			return err
		}
		count.Bytes += int64(n)
	}
	count.Seconds = time.Since(began).Seconds()
	totals := kcp.DefaultSnmp.Copy()
	count.Segments, count.Retransmits = totals.OutSegs, totals.RetransSegs
	time.Sleep(silence / 2) // what is still in the window leaves
	return count.print()
}

func main() {
	var with tuning
	serve := flag.Bool("serve", false, "be the sink")
	address := flag.String("address", "127.0.0.1:5400", "where the sink listens")
	seconds := flag.Float64("seconds", 2, "how long to send")
	block := flag.Int("block", 128<<10, "bytes per write")
	flag.IntVar(&with.window, "window", 1024, "send and receive window, segments")
	flag.IntVar(&with.mtu, "mtu", 1400, "bytes of a datagram")
	flag.IntVar(&with.flush, "flush", 10, "interval, ms")
	flag.IntVar(&with.nodelay, "nodelay", 1, "1: short timeouts")
	flag.IntVar(&with.resend, "resend", 2, "ACKs that pass a segment before it is resent")
	flag.IntVar(&with.nc, "nc", 1, "1: no congestion control")
	var around envelope
	flag.IntVar(&around.data, "ds", 0, "data datagrams of a set")
	flag.IntVar(&around.parity, "ps", 0, "parity datagrams of a set")
	flag.StringVar(&around.crypt, "crypt", "", "cipher")
	flag.StringVar(&around.key, "key", "it's a secrect", "key of the cipher")
	flag.DurationVar(&around.oob, "oob", 0, "send an out-of-band datagram so often")
	tells := flag.Bool("about", false, "print what the library can do, and end")
	bytes := flag.Int64("bytes", 0, "send or take so many bytes, and print their hash")
	flag.Parse()
	err := error(nil)
	if *tells {
		err = about{}.print()
	} else if *serve {
		err = sink(*address, with, around, *bytes)
	} else {
		err = source(*address, with, around, *seconds, *bytes, *block)
	}
	if err != nil {
		os.Stderr.WriteString("kcpgo: " + err.Error() + "\n")
		os.Exit(1)
	}
}
