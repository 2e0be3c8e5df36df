import com.taobao.metamorphosis.Message;
import com.taobao.metamorphosis.client.MessageSessionFactory;
import com.taobao.metamorphosis.client.MetaClientConfig;
import com.taobao.metamorphosis.client.MetaMessageSessionFactory;
import com.taobao.metamorphosis.client.consumer.ConsumerConfig;
import com.taobao.metamorphosis.client.consumer.MessageConsumer;
import com.taobao.metamorphosis.client.consumer.MessageListener;
import com.taobao.metamorphosis.client.producer.MessageProducer;
import com.taobao.metamorphosis.client.producer.SendMessageCallback;
import com.taobao.metamorphosis.client.producer.SendResult;
import com.taobao.metamorphosis.utils.ZkUtils.ZKConfig;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Executor;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;

/** The Java client 1.4.6.2; ADDRESS: ZOOKEEPER,ROOT. It looks every 10 ms for messages; as it comes it waits up to 500 ms. */
public class WithMetaq extends Work {
    static final int OPEN = 2000;
    MessageProducer producer;

    <T extends MetaClientConfig> T config(T config) {
        ZKConfig zk = new ZKConfig();
        zk.zkConnect = address.split(",")[0];
        zk.zkRoot = address.split(",")[1];
        config.setZkConfig(zk);
        return config;
    }

    void open() throws Exception {
        producer = new MetaMessageSessionFactory(config(new MetaClientConfig())).createProducer();
        producer.publish(topic);
    }

    void send(byte[] body, int number) throws Exception {
        SendResult result = producer.sendMessage(new Message(topic, body), 10, TimeUnit.SECONDS);
        if (!result.isSuccess()) throw new IllegalStateException(result.getErrorMessage());
    }

    void later(byte[] body, int number, final Runnable answered) throws Exception {
        producer.sendMessage(new Message(topic, body), new SendMessageCallback() {
            public void onMessageSent(SendResult result) { answered.run(); }
            public void onException(Throwable t) { answered.run(); }
        }, 10, TimeUnit.SECONDS);
    }

    long stream(byte[] body, long until) throws Exception {
        final Semaphore open = new Semaphore(OPEN);
        final AtomicLong acknowledged = new AtomicLong();
        while (System.nanoTime() < until) {
            open.acquire();
            producer.sendMessage(new Message(topic, body), new SendMessageCallback() {
                public void onMessageSent(SendResult result) { if (result.isSuccess()) acknowledged.incrementAndGet(); open.release(); }
                public void onException(Throwable t) { open.release(); }
            }, 10, TimeUnit.SECONDS);
        }
        open.acquire(OPEN);
        return acknowledged.get();
    }

    void tail(final See see) throws Exception {
        ConsumerConfig config = config(new ConsumerConfig("bench"));
        config.setMaxDelayFetchTimeInMills(10);
        MessageSessionFactory factory = new MetaMessageSessionFactory(config(new MetaClientConfig()));
        MessageConsumer consumer = factory.createConsumer(config);
        final CountDownLatch began = new CountDownLatch(1);
        consumer.subscribe(topic, 1 << 20, new MessageListener() {
            public void recieveMessages(Message message) { began.countDown(); see.message(message.getData()); }
            public Executor getExecutor() { return null; }
        });
        consumer.completeSubscribe();
        began.await(20, TimeUnit.SECONDS); // of those that made the partitions; it takes seconds until the first comes
    }

    public static void main(String... words) { new WithMetaq().carryOut(words); }
}
