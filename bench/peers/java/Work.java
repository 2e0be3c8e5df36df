import java.nio.ByteBuffer;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.locks.LockSupport;

/** The workloads of bench/peers/work.py for clients in Java: a thread where Python has a coroutine. Words: VERB ADDRESS TOPIC SIZE PARTITIONS SECONDS WARM [MODE] */
abstract class Work {
    static final int MANY = 50, RATE = 1000;

    interface See { void message(byte[] body); }

    String verb, address, topic, mode;
    int size, partitions;
    double seconds, warm;

    void prepare() throws Exception {}
    abstract void open() throws Exception;
    abstract void send(byte[] body, int number) throws Exception;
    abstract void later(byte[] body, int number, Runnable answered) throws Exception;
    /** Send as fast as it goes until then; return how many were acknowledged, all of them. */
    abstract long stream(byte[] body, long until) throws Exception;
    abstract void tail(See see) throws Exception;

    static String number(double value) { return String.format(Locale.ROOT, "%.6f", value); }

    static void print(long count, double seconds, long[] took) {
        StringBuilder line = new StringBuilder("{\"messages\": " + number(count));
        line.append(", \"rate\": ").append(number(seconds > 0 ? count / seconds : 0));
        if (took.length > 0) {
            Arrays.sort(took);
            line.append(", \"p50\": ").append(number(took[took.length / 2] / 1e6));
            line.append(", \"p99\": ").append(number(took[(int) (took.length * 0.99)] / 1e6));
        }
        System.out.println(line.append('}'));
    }

    byte[] body() { byte[] body = new byte[size]; Arrays.fill(body, (byte) 'x'); return body; }

    static long now() { Instant now = Instant.now(); return now.getEpochSecond() * 1_000_000_000L + now.getNano(); }

    void waiting(int threads) throws Exception {
        open();
        final byte[] body = body();
        final AtomicInteger number = new AtomicInteger();
        for (double length : new double[] {warm, seconds}) {
            long start = System.nanoTime(), until = start + (long) (length * 1e9);
            List<long[]> all = new ArrayList<>();
            List<Throwable> errors = new ArrayList<>();
            Thread[] each = new Thread[threads];
            for (int k = 0; k < threads; k++) {
                each[k] = new Thread(() -> {
                    long[] took = new long[1 << 12];
                    int n = 0;
                    try {
                        for (long t = System.nanoTime(); t < until; t = System.nanoTime()) {
                            send(body, number.getAndIncrement());
                            if (n == took.length) took = Arrays.copyOf(took, 2 * n);
                            took[n++] = System.nanoTime() - t;
                        }
                    } catch (Throwable t) { synchronized (errors) { errors.add(t); } }
                    synchronized (all) { all.add(Arrays.copyOf(took, n)); }
                });
                each[k].start();
            }
            for (Thread thread : each) thread.join();
            if (!errors.isEmpty()) throw new IllegalStateException(errors.size() + " of the threads failed", errors.get(0));
            double lasted = (System.nanoTime() - start) / 1e9;
            if (length == seconds) {
                long[] took = all.stream().flatMapToLong(Arrays::stream).toArray();
                print(took.length, lasted, took);
            }
        }
    }

    void streaming() throws Exception {
        open();
        stream(body(), System.nanoTime() + (long) (warm * 1e9));
        long start = System.nanoTime();
        long count = stream(body(), start + (long) (seconds * 1e9));
        print(count, (System.nanoTime() - start) / 1e9, new long[0]);
    }

    void latency(String[] words) throws Exception {
        final int count = (int) (RATE * (seconds + 1));
        final long[] took = new long[count];
        final AtomicInteger got = new AtomicInteger();
        final CountDownLatch done = new CountDownLatch(1);
        tail(body -> {
            int place = got.getAndIncrement();
            if (place < count) took[place] = now() - ByteBuffer.wrap(body).getLong();
            if (place == count - 1) done.countDown();
        });
        List<String> command = new ArrayList<>(List.of(System.getProperty("java.home") + "/bin/java", "-Xmx256m", "-Duser.home=" + System.getProperty("user.home"), "-cp", System.getProperty("java.class.path"), getClass().getName(), "pace"));
        command.addAll(Arrays.asList(words).subList(1, words.length));
        Process sender = new ProcessBuilder(command).redirectErrorStream(true).redirectOutput(ProcessBuilder.Redirect.DISCARD).start();
        boolean all = done.await((long) (seconds + 20), TimeUnit.SECONDS);
        sender.destroy();
        if (!all) throw new IllegalStateException(got + " of " + count + " messages came");
        print(count, 0, Arrays.copyOfRange(took, RATE, count));
    }

    void pace() throws Exception {
        open();
        final int count = (int) (RATE * (seconds + 1));
        final CountDownLatch open = new CountDownLatch(count);
        long start = System.nanoTime();
        for (int k = 0; k < count; k++) {
            long left = start + (long) (k * 1e9 / RATE) - System.nanoTime();
            if (left > 0) LockSupport.parkNanos(left);
            ByteBuffer body = ByteBuffer.allocate(size);
            body.putLong(now());
            later(body.array(), k, open::countDown);
        }
        open.await(10, TimeUnit.SECONDS);
    }

    void carryOut(String[] words) {
        try {
            verb = words[0]; address = words[1]; topic = words[2];
            size = Integer.parseInt(words[3]); partitions = Integer.parseInt(words[4]);
            seconds = Double.parseDouble(words[5]); warm = Double.parseDouble(words[6]);
            mode = words.length > 7 ? words[7] : "";
            switch (verb) {
                case "prepare": long start = System.nanoTime(); prepare(); System.out.println("{\"seconds\": " + number((System.nanoTime() - start) / 1e9) + "}"); break;
                case "one": waiting(1); break;
                case "many": waiting(MANY); break;
                case "stream": streaming(); break;
                case "latency": latency(words); break;
                case "pace": pace(); break;
                default: throw new IllegalArgumentException(verb);
            }
            System.out.flush();
            Runtime.getRuntime().halt(0);
        } catch (Throwable t) {
            t.printStackTrace();
            Runtime.getRuntime().halt(1);
        }
    }
}
