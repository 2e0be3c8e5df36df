package judge;

import com.taobao.gecko.core.command.ResponseCommand;
import com.taobao.gecko.service.RemotingClient;
import com.taobao.gecko.service.RemotingFactory;
import com.taobao.gecko.service.config.ClientConfig;
import com.taobao.metamorphosis.network.BooleanCommand;
import com.taobao.metamorphosis.network.MetamorphosisWireFormatType;
import com.taobao.metamorphosis.network.SyncCommand;
import com.taobao.metamorphosis.utils.CheckSum;
import java.util.concurrent.TimeUnit;

/** --server meta://h:p --topic t --count n: sends `sync` as a master of 1.4.6.2 does, by its code; says each answer. */
public class Sync {
    public static void main(String[] a) {
        try {
            final J j = new J(a);
            ClientConfig config = new ClientConfig();
            config.setWireFormatType(new MetamorphosisWireFormatType());
            RemotingClient client = RemotingFactory.connect(config);
            String url = j.s("server", null), topic = j.s("topic", "test");
            client.connect(url);
            client.awaitReadyInterrupt(url, 10000);
            int good = 0, count = j.i("count", 10);
            long first = j.l("id", -5000);
            for (int i = 0; i < count; i++) {
                byte[] data = J.payload("sync", i, j.i("size", 100));
                SyncCommand command = new SyncCommand(topic, i % 2, data, 0, first + i, CheckSum.crc32(data), i + 1);
                ResponseCommand reply = client.invokeToGroup(url, command, 5000, TimeUnit.MILLISECONDS);
                BooleanCommand answer = (BooleanCommand) reply;
                if (answer.getCode() == 200) good++;
                J.out("event", "answer", "code", answer.getCode(), "text", answer.getErrorMsg());
            }
            SyncCommand test = new SyncCommand("_metaq_slave_status_test", 0, J.utf("test"), 0, 1L, -1, count + 1);
            BooleanCommand tried = (BooleanCommand) client.invokeToGroup(url, test, 5000, TimeUnit.MILLISECONDS);
            J.out("event", "done", "good", good, "test", tried.getCode());
            client.stop(); System.exit(good == count && tried.getCode() == 200 ? 0 : 2);
        } catch (Throwable t) { J.fail(t); }
    }
}
