import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Semaphore;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendCallback;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.TopicConfig;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/** RocketMQ 5.2 with its Java client; ADDRESS: NAMESRV,BROKER. A partition is a queue; `stream` sends lists of 200. */
public class WithRocketmq extends Work {
    static final int LIST = 200, OPEN = 20;
    DefaultMQProducer producer;
    List<MessageQueue> queues;

    String names() { return address.split(",")[0]; }

    void prepare() throws Exception {
        DefaultMQAdminExt admin = new DefaultMQAdminExt(60000);
        admin.setNamesrvAddr(names());
        admin.start();
        admin.createAndUpdateTopicConfig(address.split(",")[1], new TopicConfig(topic, partitions, partitions, 6));
        for (int k = 0; k < 100; k++) {
            Thread.sleep(100);
            try { admin.examineTopicRouteInfo(topic); break; } catch (Exception e) { if (k == 99) throw e; }
        }
        admin.shutdown();
    }

    void open() throws Exception {
        producer = new DefaultMQProducer("bench" + System.nanoTime());
        producer.setNamesrvAddr(names());
        producer.setRetryTimesWhenSendFailed(0);
        producer.setRetryTimesWhenSendAsyncFailed(0);
        producer.setSendMsgTimeout(10000);
        producer.start();
        queues = producer.fetchPublishMessageQueues(topic);
    }

    MessageQueue queue(int number) { return queues.get(Math.floorMod(number, queues.size())); }

    void send(byte[] body, int number) throws Exception {
        SendResult result = producer.send(new Message(topic, body), queue(number));
        if (result.getSendStatus() != SendStatus.SEND_OK) throw new IllegalStateException(result.toString());
    }

    void later(byte[] body, int number, final Runnable answered) throws Exception {
        producer.send(new Message(topic, body), queue(number), new SendCallback() {
            public void onSuccess(SendResult result) { answered.run(); }
            public void onException(Throwable t) { answered.run(); }
        });
    }

    long stream(byte[] body, long until) throws Exception {
        final Semaphore open = new Semaphore(OPEN);
        final AtomicLong acknowledged = new AtomicLong();
        for (int number = 0; System.nanoTime() < until; number++) {
            List<Message> list = new ArrayList<>(LIST);
            for (int k = 0; k < LIST; k++) list.add(new Message(topic, body));
            open.acquire();
            producer.send(list, queue(number), new SendCallback() {
                public void onSuccess(SendResult result) { acknowledged.addAndGet(LIST); open.release(); }
                public void onException(Throwable t) { open.release(); }
            });
        }
        open.acquire(OPEN);
        return acknowledged.get();
    }

    void tail(final See see) throws Exception {
        final DefaultLitePullConsumer consumer = new DefaultLitePullConsumer("bench" + System.nanoTime());
        consumer.setNamesrvAddr(names());
        consumer.setAutoCommit(false);
        consumer.setPullBatchSize(1000);
        consumer.start();
        List<MessageQueue> all = new ArrayList<>(consumer.fetchMessageQueues(topic));
        consumer.assign(all);
        for (MessageQueue each : all) consumer.seekToBegin(each);
        Thread reader = new Thread(() -> { while (true) for (MessageExt message : consumer.poll(1000)) see.message(message.getBody()); });
        reader.setDaemon(true);
        reader.start();
        Thread.sleep(500);
    }

    public static void main(String... words) { new WithRocketmq().carryOut(words); }
}
