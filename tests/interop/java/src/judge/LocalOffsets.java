package judge;

import com.taobao.metamorphosis.client.consumer.TopicPartitionRegInfo;
import com.taobao.metamorphosis.client.consumer.storage.LocalOffsetStorage;
import com.taobao.metamorphosis.cluster.Partition;
import java.util.ArrayList;
import java.util.List;

/** --file f --topic t --group g --partitions 0-0,0-1 [--set-offset n --set-id n] : reads (or first writes) offsets in a file with the client's own class */
public class LocalOffsets {
    public static void main(String[] a) {
        try {
            J j = new J(a); String topic = j.s("topic", "test"), group = j.s("group", "judge");
            LocalOffsetStorage st = new LocalOffsetStorage(j.s("file", null));
            String[] names = j.s("partitions", "0-0").split(",");
            if (j.o.containsKey("set-offset")) {
                List<TopicPartitionRegInfo> all = new ArrayList<TopicPartitionRegInfo>();
                for (String name : names) all.add(new TopicPartitionRegInfo(topic, new Partition(name), j.l("set-offset", 0), j.l("set-id", -1)));
                st.commitOffset(group, all);
            }
            for (String name : names) {
                TopicPartitionRegInfo i = st.load(topic, group, new Partition(name));
                J.out("event", "offset", "partition", name, "offset", i == null ? null : (Object) i.getOffset().get());
            }
            J.out("event", "done"); System.exit(0);
        } catch (Throwable t) { J.fail(t); }
    }
}
