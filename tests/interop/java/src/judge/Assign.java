package judge;

import com.taobao.metamorphosis.client.consumer.ConsisHashStrategy;
import com.taobao.metamorphosis.client.consumer.DefaultLoadBalanceStrategy;
import com.taobao.metamorphosis.client.consumer.LoadBalanceStrategy;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Paths;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;

/** --file F : lines of `default|consistent TAB consumer,consumer TAB partition,partition`; sorts both as the client does and says what each consumer gets */
public class Assign {
    public static void main(String[] a) {
        try {
            J j = new J(a);
            long n = 0;
            for (String line : Files.readAllLines(Paths.get(j.s("file", null)), StandardCharsets.UTF_8)) {
                String[] p = line.split("\t");
                LoadBalanceStrategy s = p[0].equals("default") ? new DefaultLoadBalanceStrategy() : new ConsisHashStrategy();
                List<String> consumers = Arrays.asList(p[1].split(",")), partitions = Arrays.asList(p[2].split(","));
                Collections.sort(consumers); Collections.sort(partitions);
                for (String c : consumers) {
                    List<String> got = s.getPartitions("test", c, consumers, partitions);
                    Collections.sort(got);
                    J.out("event", "share", "case", n, "consumer", c, "partitions", String.join(",", got));
                }
                n++;
            }
            J.out("event", "done", "cases", n);
        } catch (Throwable t) { J.fail(t); }
    }
}
